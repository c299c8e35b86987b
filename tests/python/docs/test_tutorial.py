"""docs/tutorial.md and docs/howto_data.md as a reader types them: every command works, and prints what the page shows."""

import pytest
from conftest import SOURCE, assert_shown, blocks, reader, run


@pytest.mark.parametrize("page", ["tutorial.md", "howto_data.md"])
def test_the_page_works(page, tmp_path):
    environment = reader(tmp_path)
    (tmp_path / ".venv").symlink_to(SOURCE / ".venv")
    output = ""
    for block in blocks(page):
        if block.language == "bash":
            output = run(block, tmp_path, environment)
        if block.language == "text":  # "text sample" is the model's own writing
            assert_shown(block, output)
