from refiner.core.printable import harmless_markdown, printable


def test_what_steers_a_terminal_is_shown_by_its_code() -> None:
    assert printable("a\x1b[31mb\x07\u202ec\ud800\n\t") == "a\\x1b[31mb\\x07\\u202ec\\ud800\n\t"
    assert printable("Größe 3 < 4, 日本") == "Größe 3 < 4, 日本"


def test_a_page_holds_neither_html_nor_links() -> None:
    page = harmless_markdown("| <script>x</script> | ![a](http://b) | 1 < 2 | [1, 2] |")
    assert page == "| &lt;script>x&lt;/script> | ![a\\](http://b) | 1 < 2 | [1, 2] |"
