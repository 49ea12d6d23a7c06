"Words of any script, files of any kind, and the sentences that come with the package."
import re
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mae_nb.text import (
    Vocabulary, _sentences_of, _stored_form, _stored_sentences, corpus, python_sentences,
    read_sentences, words_of,
)

INPUTS = {  # text, and its words with spaces between
    "Greek, a sigma at the end": ("Ο ΟΔΥΣΣΕΥΣ γύρισε στην Ιθάκη.", "ο οδυσσευς γύρισε στην ιθάκη"),
    "Hebrew, with points and gershayim": ("שָׁלוֹם! צה״ל ו־ב׳", "שָׁלוֹם צה״ל ו־ב"),
    "Arabic, with vowels and digits": ("اَلسَّلَامُ عَلَيْكُمْ ١٢٣", "اَلسَّلَامُ عَلَيْكُمْ ١٢٣"),
    "Persian, a joiner of no width": ("می\u200cخواهم بروم؟", "میخواهم بروم"),
    "Hindi": ("मैं हिन्दी बोलता हूँ। १२", "मैं हिन्दी बोलता हूँ १२"),
    "Tamil": ("தமிழ் மொழி", "தமிழ் மொழி"),
    "Korean": ("한국어 문장은 2개입니다.", "한국어 문장은 2 개입니다"),
    "Korean, in single letters": (unicodedata.normalize("NFD", "한국어 문장"), "한국어 문장"),
    "Chinese": ("你好，世界！二〇二六年", "你 好 世 界 二 〇 二 六 年"),
    "Japanese": ("日本のラーメン、3杯。", "日 本 の ラ ー メ ン 3 杯"),
    "Hiragana, katakana of half width": ("ひらがな ｶﾅ", "ひ ら が な ｶ ﾅ"),
    "Lao, Khmer, Burmese": ("ລາວ ខ្មែរ မြန်", "ລ າ ວ ខ្ មែ រ မြ န်"),
    "Japanese, a mark apart": ("か\u3099", "が"),
    "Chinese and English": ("用Python写code", "用 python 写 code"),
    "Thai": ("ไทยนี้", "ไ ท ย นี้"),
    "Thai, no-width space": ("ก\u200bข", "ก ข"),
    "a no-width space": ("one\u200btwo", "one two"),
    "Turkish": ("İSTANBUL'DA ışık", "istanbul'da ışık"),
    "Turkish, decomposed": ("I\u0307zmir", "izmir"),
    "German": ("Die Straße heißt „Große Gasse“ – na und?", "die straße heißt große gasse na und"),
    "German, capital ß": ("STRAẞE", "straße"),
    "French": ("Aujourd’hui l’été, qu'il «neige»…", "aujourd'hui l'été qu'il neige"),
    "Catalan": ("col·lecció", "col·lecció"),
    "Vietnamese": ("Tiếng Việt", "tiếng việt"),
    "decomposed accents": ("cafe\u0301 nai\u0308ve", "café naïve"),
    "Ukrainian apostrophes": ("п’ять п'ять пʼять", "п'ять п'ять п'ять"),
    "Cyrillic, a hyphen": ("кто-нибудь ещё", "кто-нибудь ещё"),
    "hyphens that are typeset": ("re‐use co‑operate", "re-use co-operate"),
    "soft hyphens": ("Donau\u00addampf\u00adschiff", "donaudampfschiff"),
    "a byte order mark inside": ("one\ufefftwo \ufeffthree", "onetwo three"),
    "marks of direction": ("\u200eabc\u200f \u202edef\u202c", "abc def"),
    "emoji only": ("🙂👩\u200d🔬❤️ 3️⃣", "3"),
    "a flag": ("🇫🇷", ""),
    "signs only": ("…—!? '' -- __", ""),
    "a mark that belongs to nothing": ("\u0301 a", "a"),
    "superscripts and fractions": ("x² ½ m³", "x m"),
    "a zero byte, a form feed, a line separator": ("a\0b\fc\u2028d", "a b c d"),
    "half a surrogate pair": ("a\ud800b", "a b"),
    "letters beyond 16 bits": ("𐐀𐐁 𝛼", "𐐨𐐩 𝛼"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("text, words", INPUTS.values(), ids=INPUTS)
def test_words(text, words):
    "The words, of which the same words follow, and a vocabulary that encodes and decodes them."
    assert words_of(text) == words.split()
    assert words_of(words) == words.split()
    vocabulary = Vocabulary.of([text]*2, seen=2)
    assert vocabulary.decode(vocabulary.encode([text], 12)) == [words]
    assert set(vocabulary.words[2:]) == set(words.split())


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("i\u0323\u0307\u0301 Σ\u00adΣ ΑΣ-Σ")
def test_words_are_stable(text):
    "Words read again are the same words, and composed and decomposed text has the same ones."
    words = words_of(text)
    assert words_of(" ".join(words)) == words
    assert all(words) and not any(re.search(r"\s", word) for word in words)
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(unicodedata.normalize("NFC",
                                                                                          text))


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=127)))
@example("Don't re-use __init__'s x1, 3.14 a--b a-_b 'c' utf-8")
def test_english_is_as_it_was(text):
    "The expression that corpora were made with before, for what is in ASCII."
    assert words_of(text) == re.findall(r"[a-z]+(?:['_-][a-z]+)*|\d+", text.lower())


def test_every_letter_is_in_a_word():
    "Each letter and digit of Unicode is in a word; other characters, but marks, are in none."
    for code, c in enumerate(map(chr, range(sys.maxunicode + 1))):
        if unicodedata.category(c) in ("Cn", "Co", "Cs"): continue
        words = words_of(f"a {c} b")[1:-1]
        if c.isalpha() and c != "ʼ" or c.isdecimal() or c == "〇": assert len(words) == 1, hex(code)
        else: assert words == [], hex(code)


SCRIPTS = {"Greek": "η θάλασσα είναι {} βαθιά", "Hebrew": "הים עמוק {} מאוד היום",
           "Arabic": "البحر عميق {} جدا اليوم", "Hindi": "समुद्र बहुत {} गहरा है",
           "Korean": "바다는 매우 {} 깊다 오늘", "Chinese": "海很深{}今天", "Japanese": "海は{}とても深い",
           "Thai": "ทะเล{}ลึก", "German": "Das Öl fließt {} über Gräben",
           "French": "L’été s’achève {} déjà là", "Turkish": "İçme suyu {} ılık değil",
           "Polish": "Żółw {} łapie ćmę", "Russian": "море очень {} глубокое сегодня",
           "Georgian": "ზღვა ძალიან {} ღრმაა დღეს", "Armenian": "Ծովը շատ {} խորն է",
           "Amharic": "ባሕሩ በጣም {} ጥልቅ ነው"}


@pytest.mark.parametrize("sentence", SCRIPTS.values(), ids=SCRIPTS)
def test_corpus_of_a_script(tmp_path, sentence):
    "From a file to rows of word numbers and back, with no word lost."
    lines = [sentence.format(i) for i in range(200)]
    (tmp_path/"it.txt").write_text("\n".join(lines), "utf-8")
    found = corpus(read_sentences(tmp_path/"it.txt", block=20), seen=1)
    assert sum(len(part.x) for part in found[:3]) == 200
    decoded = found.vocabulary.decode(found.train.x)
    assert set(decoded) <= {" ".join(words_of(line))
                            for line in lines} and "<unk>" not in " ".join(decoded)


FILES = {  # bytes, and the numbers of the lines with their sentences; or what the refusal says
    "a byte order mark": ("one two\nthree".encode("utf-8-sig"), [(1, "one two"), (2, "three")]),
    "ends of lines of Windows": (b"one\r\ntwo\r\n", [(1, "one"), (2, "two")]),
    "ends of lines of old Macs": (b"one\rtwo", [(1, "one"), (2, "two")]),
    "form feeds stay in their line": (b"one\n\ftwo\x0bthree\nfour",
                                      [(1, "one"), (2, "\ftwo\x0bthree"), (3, "four")]),
    "line separators stay in their line": ("one\u2028two\x85three\nfour".encode(),
                                           [(1, "one\u2028two\x85three"), (2, "four")]),
    "empty lines are counted": (b"\n\none\n \t\ntwo", [(3, "one"), (5, "two")]),
    "lines without words": ("one\n---\n🙂\ntwo".encode(), [(1, "one"), (4, "two")]),
    "one line": (b"only", [(1, "only")]),
    "empty": (b"", "in which nothing stands"),
    "a byte order mark alone": ("".encode("utf-8-sig"), "in which nothing stands"),
    "white space": (b" \r\n\t\n", "in which nothing stands"),
    "emoji": ("🙂\n🎉🎉".encode(), "in which no word stands"),
    "signs": (b"...\n---\n", "in which no word stands"),
    "UTF-16": ("one two\nthree".encode("utf-16"), r"not UTF-8 \(invalid start byte at byte 0\)"),
    "UTF-16 without a mark": ("one two\nthree".encode("utf-16-le"), "zero bytes, as UTF-16 has"),
    "UTF-32": ("one".encode("utf-32-be"), "zero bytes, as UTF-16 has"),
    "Latin-1": ("Größe".encode("latin-1"),
                r"not UTF-8 \(invalid start byte at byte 2\)|not UTF-8 \(invalid .* at byte 2\)"),
    "a zero byte": (b"one\0two\n", "zero bytes, as UTF-16 has"),
    "half a surrogate pair": (b"one \xed\xa0\x80", "not UTF-8"),
}


@pytest.mark.parametrize("content, expected", FILES.values(), ids=FILES)
def test_files(tmp_path, content, expected):
    path = tmp_path/"it.txt"
    path.write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(ValueError,
                           match=rf"path got {re.escape(str(path))}, .*{expected}.*, but takes a "
                                 rf"text file in UTF-8"):
            read_sentences(path)
    else:
        assert read_sentences(path, block=1) == [(f"lines {i} to {i}", line)
                                                 for i, line in expected]


def test_blocks_of_lines(tmp_path):
    (tmp_path/"it.txt").write_text("\n".join("abcdefg"), "utf-8")
    assert read_sentences(str(tmp_path/"it.txt"),
                          block=3) == [*((f"lines {1 + 3*(i//3)} to {3 + 3*(i//3)}", c)
                                         for i, c in enumerate("abcdefg"))]


@pytest.mark.parametrize("call, match", [
    (lambda: corpus("mine.txt"), "found got 'mine.txt', but takes pairs"),
    (lambda: corpus(["one sentence", "another"]), "found got 'one sentence', but takes pairs"),
    (lambda: corpus([("source", "a sentence", 3)]), "found got .*3.*, but takes pairs"),
    (lambda: corpus([("source", ["a", "sentence"])]), "found got .*, but takes pairs"),
    (lambda: corpus([]), "found got 0 sentences of 4 to 25 words, from 0 sources"),
    (lambda: corpus([("a", "海"*60)]*9),
     "found got 0 sentences of 4 to 25 words, from 0 sources, .*but takes more sources, or other "
     "lengths"),
    (lambda: corpus([("a", "🙂")]), "found got 0 sentences of 4 to 25 words"),
    (lambda: corpus([("a", f"one line more {i}") for i in range(9)]),
     "found got 1 sentences|found got 9 sentences of 4 to 25 words, from 1 sources"),
    (lambda: Vocabulary.of("To be"), "sentences got one text, 'To be', but takes several"),
    (lambda: Vocabulary(["a"]).encode("a b", 3),
     "sentences got one text, 'a b', but takes several"),
])
def test_refusals(call, match):
    with pytest.raises(ValueError, match=match): call()


def test_file_of_sentences():
    "Each sentence once, as its own words, with a source; few enough bytes."
    found = _stored_sentences()
    assert len(found) == len({words for _, words in found}) == 17815
    assert all(source and words_of(words) == words.split(" ") and words.isascii()
               for source, words in found)


def test_file_is_what_its_code_gives():
    "Under the Python it was made with, the very lines; under others, most of them."
    here = _stored_form(python_sentences()).splitlines()
    stored = ["\t".join(pair) for pair in _stored_sentences()]
    if sys.version_info[:3] == (3, 11, 7): assert here == stored
    else: assert .6 < len({*here} & {*stored})/len(stored) < 1


def test_corpus_does_not_depend_on_the_running_python():
    "Numbers of the corpus that the models of the chapter on sentences were trained on."
    text = corpus()
    assert [(len(part.x), len(set(part.source)), part.x.sum().item())
            for part in text[:3]] == [(12241, 204, 41735204), (1375, 19, 4649507),
                                      (1746, 26, 4983222)]
    assert len(text.vocabulary) == 2543 and text.vocabulary.words[2:6] == ["the", "a", "is", "to"]


def test_corpus_of_the_running_python():
    text = corpus(python_sentences())
    assert sum(len(part.x) for part in text[:3]) > 8000 and len(text.vocabulary) > 1500


@pytest.mark.parametrize("text, sentences", [
    ("It is *one*. And\na second: yes.", ["It is one.", "And a second: yes."]),
    ("A paragraph.\n\n>>> code.\n\nno end\n\nThe last!", ["A paragraph.", "The last!"]),
    ("rule ::= x.\n\nWhat? (In brackets.) not a capital. no", ["What?"]),
    ("", []),
])
def test_sentences(text, sentences):
    assert _sentences_of(text) == sentences
