"""What a lesson's comment says, section by section."""

from meshdemo.lessons.files.comment import parse_words

COMMENT = """What it shows,
in two lines.

  meshdemo watch http://127.0.0.1:3030/ -n 5 \\
    --expect 'Webserver V2=5'

Question: how many of 5
calls? [Webserver V2]

Expect this. Without a policy that.

Why: because.

And so on.

Mistake: another.

Lab: run it with --istiod.""".splitlines()


def test_sections():
    """Each section is found by its first word, its paragraphs flow, and commands belong to none."""
    words = parse_words(COMMENT)
    assert words.about == "What it shows, in two lines."
    assert (words.question, words.answer) == ("How many of 5 calls?", "Webserver V2")
    assert words.section("Expect") == ["Expect this. Without a policy that."]
    assert words.section("Why") == ["Because.", "And so on."]
    assert words.section("Mistake") == ["Another."]
    assert words.section("Range") == []


def test_a_comment_without_sections():
    """A comment of somebody else is all about the lesson, and asks nothing."""
    words = parse_words(["One.", "", "Two: three."])
    assert (words.about, words.question, words.answer) == ("One. Two: three.", "", None)
    assert parse_words([]).about == ""
