"""What a browser shows: loading, progress, answers, the timeline, the session, keys, schemes."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIP = ROOT / 'tests/data_files/bento.mp4'
# The least contrast of all texts that are seen, by the formula of WCAG 2, and where it is.
CONTRAST = """() => {
  const rgba = (text) => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
  const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = rgba(getComputedStyle(node).backgroundColor);
      if (color[3] === 1) return color;
    }
    return [255, 255, 255, 1];
  };
  const least = [99, ''];
  const all = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (all.nextNode()) {
    const node = all.currentNode.parentElement;
    if (!all.currentNode.data.trim() || !node.checkVisibility()) continue;
    const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least.splice(0, 2, ratio, all.currentNode.data);
  }
  return least;
}"""

pytestmark = pytest.mark.web


def test_a_browser_shows_the_scenes_of_a_dropped_clip(page, opened, drop):
    tab = opened(page[0])
    tab.get_by_text('knows 3 scenes by looking and listening: park, street traffic').wait_for()
    assert 'random variables' in tab.locator('#warnings').inner_text()
    tab.set_default_timeout(90_000)
    name = '<img src=x onerror=alert(1)>.mp4'
    drop(tab, CLIP.read_bytes(), name)
    assert tab.locator('#name').inner_text() == name
    scenes = tab.locator('#scenes li').all_inner_texts()
    assert {text.split('\n')[0] for text in scenes} == {'park', 'street traffic', 'tram'}
    shares = [float(text.split('\n')[-1].rstrip(' %')) for text in scenes]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(100, abs=0.2)
    first = scenes[0].split('\n')[0]
    assert tab.locator('#moment').inner_text().startswith(f'0:00 to 0:01: {first} ')
    assert tab.locator('#answers button').inner_text().startswith(f'{name}: {first} ')
    why = tab.frame_locator('#why')
    assert why.locator('h1').inner_text() == name
    assert why.get_by_text('without the sound').count() == 1
    assert tab.locator('#preview video').evaluate('v => v.duration') == pytest.approx(1, abs=0.3)


def test_a_clip_that_cannot_be_read_is_a_sentence(browser, page):
    with contextlib.closing(browser.new_context()) as context:
        tab = context.new_page()
        tab.goto(f'http://127.0.0.1:{page[0]}/')
        tab.get_by_text(re.compile(' knows ')).wait_for()
        tab.locator('#file').set_input_files(
            {'name': 'a.mp4', 'mimeType': 'video/mp4', 'buffer': b'no film'}
        )
        tab.locator('#error').wait_for()
        assert tab.locator('#error').inner_text().startswith('cannot decode a.mp4: ')
        assert not tab.locator('#found').is_visible() and not tab.locator('#working').is_visible()
        assert tab.locator('#earlier').is_hidden()


def test_the_page_says_that_it_loads_and_compiles_and_takes_a_clip_meanwhile(
    opened, drop, scripted
):
    tagger = scripted()
    tab = opened(tagger, is_ready=False)
    tab.locator('#about', has_text='Loading the model ...').wait_for()
    drop(tab, answered=False)
    tab.locator('#state', has_text='Loading the model ...').wait_for()
    tagger.may_load.set()
    tab.locator('#state', has_text='Compiling ...').wait_for()
    tab.locator('#about', has_text='scripted knows 3 scenes').wait_for()
    assert tab.locator('#bar').get_attribute('value') is None  # how long it takes is not known
    tagger.may_compile.set()
    tab.get_by_text('Done in 1.0 s: airport 73.3 %').wait_for()


@pytest.mark.parametrize(
    ('labels', 'said'), [(['airport', 'park'], 'airport, park'), ([], 'none of the labels')]
)
def test_of_several_labels_those_that_are_true_are_named(opened, drop, scripted, labels, said):
    tagger = scripted(kind='independent')
    tagger.labels = labels
    tab = opened(tagger)
    drop(tab)
    assert tab.locator('#state').inner_text() == f'Done in 1.0 s: {said}'
    assert tab.locator('#answers button').inner_text() == f'clip.mp4: {said}'
    assert tab.locator('#scenes .true').count() == len(labels)


def test_a_long_clip_has_its_windows_and_the_time_left_and_ends_by_escape(opened, drop, scripted):
    tagger = scripted()
    tagger.step = ('tagging', 16, 72, 200.0)
    tab = opened(tagger)
    drop(tab, answered=False)
    said = 'Looking and listening: window 17 of 72, about 4 min left'
    tab.get_by_text(said, exact=True).wait_for()
    assert tab.locator('#bar').evaluate('bar => bar.value') == pytest.approx(16 / 72)
    tagger.is_compiling = True
    tab.locator('#state', has_text='Compiling ...').wait_for()
    tab.keyboard.press('Escape')
    tab.get_by_text('Cancelled').wait_for()
    assert tagger.given_up.wait(5)
    tagger.step = None
    drop(tab)  # the next one is served


def test_a_clip_that_waits_is_told_of_those_before_it(opened, drop, scripted, scripted_port):
    tagger = scripted()
    tagger.step, tagger.is_compiling = ('explaining', 3, 4, 0.2), True
    with scripted_port(tagger) as port:
        first, second = opened(port), opened(port)
        drop(first, answered=False)
        assert tagger.reached.wait(10)
        drop(second, answered=False)
        second.get_by_text('Waiting for 1 clip ...', exact=True).wait_for()
        first.get_by_text('Compiling ... (the first clip').wait_for()
        tagger.is_compiling = False
        first.get_by_text('Explaining: window 4 of 4, a moment left', exact=True).wait_for()
        tagger.may_go_on.set()
        second.get_by_text(re.compile('^Done in')).wait_for()


def test_a_clip_is_given_up_when_its_tab_goes_away(opened, drop, scripted):
    tagger = scripted()
    tagger.step = ('opening',)
    tab = opened(tagger)
    drop(tab, answered=False)
    assert tagger.reached.wait(10)
    tab.close()
    assert tagger.given_up.wait(10)


@pytest.mark.parametrize(
    ('takes', 'verb'),
    [
        (('picture',), 'looking'),
        (('sound',), 'listening'),
        (('sound', 'picture'), 'looking and listening'),
    ],
)
def test_it_is_said_whether_a_system_looks_or_listens(opened, takes, verb, drop, scripted):
    tagger = scripted(takes)
    tagger.step = ('tagging', 0, 1)
    tab = opened(tagger)
    tab.get_by_text(f'knows 3 scenes by {verb}: airport, park, street traffic.').wait_for()
    drop(tab, answered=False)
    tab.get_by_text(f'{verb.capitalize()}: window 1 of 1', exact=True).wait_for()


def test_the_names_of_many_tags_are_not_listed(opened, scripted):
    tagger = scripted(classes=tuple(f'tag {k}' for k in range(1521)), kind='independent')
    tab = opened(tagger)
    tab.get_by_text('scripted knows 1,521 tags by looking and listening.', exact=True).wait_for()


def test_a_picture_keeps_its_shape_and_has_no_timeline(opened, scripted):
    tagger = scripted(windows=1, window_s=0.0)
    tab = opened(tagger)
    tab.locator('#file').set_input_files(ROOT / 'tests/data_files/parrot.jpg')
    tab.get_by_text(re.compile('^Done in')).wait_for()
    tab.wait_for_function('() => document.querySelector("#preview img").complete')
    shape = 'i => [i.clientWidth / i.clientHeight, i.naturalWidth / i.naturalHeight]'
    shown, natural = tab.locator('#preview img').evaluate(shape)
    assert shown == pytest.approx(natural, rel=0.02)
    assert tab.locator('#when').is_hidden()
    # beside the scenes
    tops = [
        tab.locator(part).first.bounding_box()['y'] for part in ('#found > section', '#preview')
    ]
    assert tops[0] == tops[1]


def cursor(tab):
    """Where the cursor is, as a share of the strip."""
    return float(tab.locator('#cursor').evaluate('c => c.style.left').rstrip('%')) / 100


def test_the_timeline_moves_with_the_clip_and_the_clip_with_the_timeline(
    opened, film, tmp_path, drop, scripted
):
    tab = opened(scripted())
    drop(tab, film(tmp_path / 'a.mp4', 12.0).read_bytes())
    video = tab.locator('#preview video')
    strip, moment = tab.locator('#strip'), tab.locator('#moment')
    assert strip.locator('i').count() == 12
    assert tab.locator('#legend li').all_inner_texts() == ['airport 50 %', 'park 50 %']
    video.evaluate('v => { v.muted = true; v.currentTime = 7.5; }')
    tab.locator('#moment', has_text='0:07 to 0:08: park 73.3 %').wait_for()
    assert cursor(tab) == pytest.approx(7.5 / 12, abs=0.02)
    assert strip.get_attribute('aria-valuenow') == '7'
    assert strip.get_attribute('aria-valuetext').startswith('0:07 to 0:08: park 73.3 %')
    box = strip.bounding_box()
    strip.click(position={'x': box['width'] * 3.6 / 12, 'y': 20})
    tab.wait_for_function('() => { const v = document.querySelector("video"); return !v.paused; }')
    assert moment.inner_text().startswith('0:03 to 0:04: park')
    tab.wait_for_function('() => document.querySelector("video").currentTime > 4.1')
    tab.wait_for_function('() => document.getElementById("strip").ariaValueNow === "4"')
    assert cursor(tab) > 4 / 12
    strip.press('Space')
    assert video.evaluate('v => v.paused')
    strip.press('End')
    assert video.evaluate('v => v.currentTime') == pytest.approx(11, abs=0.1)
    strip.press('ArrowLeft')
    assert moment.inner_text().startswith('0:10 to 0:11: airport')
    strip.press('Home')
    assert cursor(tab) == 0


def test_a_timeline_is_read_without_a_player(opened, drop, scripted):
    tab = opened(scripted())
    drop(tab, b'no film')
    tab.locator('#hint', has_text='Click a window, or use the arrow keys').wait_for()
    tab.locator('#strip').press('ArrowRight')
    assert tab.locator('#moment').inner_text().startswith('0:01 to 0:02: park')


def test_the_last_ten_answers_stay_in_the_tab_until_they_are_cleared(opened, drop, scripted):
    tab = opened(scripted(windows=2))
    for k in range(11):
        drop(tab, name=f'{k}.mp4')
    names = [f'{k}.mp4: airport 73.3 %' for k in range(10, 0, -1)]
    answers = tab.locator('#answers button')
    assert answers.all_inner_texts() == names
    answers.nth(9).click()
    assert tab.locator('#name').inner_text() == '1.mp4'
    assert answers.nth(9).get_attribute('aria-current') == 'true'
    assert tab.locator('#reasons').is_visible()
    tab.reload()
    tab.locator('#earlier').wait_for()
    assert answers.all_inner_texts() == names
    answers.nth(0).click()
    assert tab.locator('#name').inner_text() == '10.mp4'
    assert tab.locator('#moment').inner_text().startswith('0:00 to 0:01: airport')
    assert tab.locator('#reasons').is_hidden() and tab.locator('#preview').is_hidden()
    tab.get_by_role('button', name='Clear').click()
    assert tab.locator('#found').is_hidden() and tab.locator('#earlier').is_hidden()
    assert tab.evaluate('sessionStorage.length') == 0


def test_a_phone_shows_all_without_a_scroll_to_the_side(opened, film, tmp_path, drop, scripted):
    name = 'a_name_without_a_space_' * 4 + '.mp4'
    classes = ('a scene with a long name of many words', 'x' * 60, 'park')
    tab = opened(
        scripted(classes=classes, windows=60),
        viewport={'width': 375, 'height': 720},
        is_mobile=True,
    )
    drop(tab, film(tmp_path / 'a.mp4', 2.0).read_bytes(), name)
    assert tab.evaluate('document.documentElement.scrollWidth') == 375
    for card in tab.locator('.card').all():
        assert card.evaluate('c => c.scrollWidth <= c.clientWidth'), card.inner_text()
    for part in ('#drop', '#scenes', '#strip', '#why', '#answers', '#preview video'):
        box = tab.locator(part).bounding_box()
        assert box['x'] >= 0 and box['x'] + box['width'] <= 375 and box['width'] > 200, part
    assert tab.locator('#why').evaluate('w => w.contentDocument.body.scrollWidth') <= 375


def test_all_is_reached_by_keyboard_and_the_focus_is_seen(opened, film, tmp_path, scripted):
    tab = opened(scripted())
    tab.on('filechooser', lambda _: None)  # from here on Chromium asks the test, not a window
    tab.keyboard.press('Tab')
    for key in ('Enter', 'Space'):
        assert tab.evaluate('document.activeElement.id') == 'file'
        assert tab.locator('#drop').evaluate('d => getComputedStyle(d).outlineStyle') == 'solid'
        with tab.expect_file_chooser() as chooser:
            tab.keyboard.press(key)
    chooser.value.set_files(film(tmp_path / 'a.mp4', 12.0))
    tab.get_by_text(re.compile('^Done in')).wait_for()
    order = []
    for _ in range(30):
        tab.keyboard.press('Tab')
        focus = 'document.activeElement.id || document.activeElement.tagName'
        order.append(tab.evaluate(focus))
        if order[-1] == 'keep':
            break
        if order[-1] not in ('VIDEO', 'why'):  # which the browser outlines in its own way
            outline = 'getComputedStyle(document.activeElement).outlineStyle'
            assert tab.evaluate(outline) == 'solid', order
    assert list(dict.fromkeys(order)) == ['clear', 'BUTTON', 'VIDEO', 'strip', 'why', 'keep']
    assert tab.locator('#state').get_attribute('role') == 'status'
    assert tab.locator('#error').get_attribute('role') == 'alert'


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_texts_stand_out_in_both_schemes(opened, scheme, drop, scripted):
    tagger = scripted()
    tagger.facts['warnings'] = ['a warning']
    tab = opened(tagger, color_scheme=scheme)
    ground = tab.evaluate('getComputedStyle(document.body).backgroundColor')
    assert (int(re.findall(r'\d+', ground)[0]) < 64) == (scheme == 'dark')
    drop(tab)
    ratio, text = tab.evaluate(CONTRAST)
    assert ratio >= 4.5, text
    frame = tab.locator('#why').element_handle().content_frame()
    ratio, text = frame.evaluate(CONTRAST)
    assert ratio >= 4.5, text
    tab.evaluate('document.getElementById("error").hidden = false')
    tagger.step = ('tagging', 1, 2)
    drop(tab, answered=False)
    tab.locator('#cancel').wait_for()
    ratio, text = tab.evaluate(CONTRAST)
    assert ratio >= 4.5, text


def test_the_pictures_of_the_docs_are_made_by_their_script(model, tmp_path):
    script = ROOT / 'docs/screenshots.py'
    command = [sys.executable, script, f'--model={model}', f'--clip={CLIP}', f'--out={tmp_path}']
    subprocess.run(command, check=True, timeout=300)
    names = {path.name for path in (ROOT / 'docs/images').glob('page_*.png')}
    assert names == {path.name for path in tmp_path.glob('*.png')} and len(names) == 5
    for name in names:
        sizes = [folder.stat().st_size for folder in (tmp_path / name, ROOT / 'docs/images' / name)]
        assert min(sizes) > 1_000 and max(sizes) <= 150_000, name
