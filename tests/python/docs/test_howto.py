"""docs/howto_router.md: its code is what tests/moe compiles and runs, and its commands work."""

from conftest import SOURCE, blocks, reader, run

PAGE = blocks("howto_router.md")


def test_the_code_is_the_compiled_one():
    compiled = "".join((SOURCE / "tests/moe" / name).read_text() for name in ("cosine_router.h", "cosine_router_test.cpp"))
    code = [block.text for block in PAGE if block.language == "cpp"]
    assert len(code) == 2
    for text in code:
        assert text in compiled
    assert "cosine_router_test.cpp" in (SOURCE / "tests/moe/CMakeLists.txt").read_text()


def test_the_commands_work(tmp_path):
    environment = reader(tmp_path)
    for block in PAGE:
        if block.language == "bash":
            assert run(block, tmp_path, environment)
