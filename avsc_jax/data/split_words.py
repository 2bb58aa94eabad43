"""Words for the splits of data on consoles and pages; files and configs keep their own names."""

WORDS = {'train_inner': 'the training part'}  # of train, whose other part is validation


def title(split: str) -> str:
    """Returns what readers call a split, or several of them with + between.

    Example:
      >>> title('train_inner+test'), title('validation')
      ('the training part+test', 'validation')
    """
    return '+'.join(WORDS.get(part, part) for part in split.split('+'))
