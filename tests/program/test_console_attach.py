"""Files that go with a message of the console's ask mode."""
import json
import os

import modeld
from cli import write
from console import Console

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def data(path, content):
    with open(path, "wb") as file:
        file.write(content)


def files():
    os.mkdir("folder")
    write("notes.md", "# Notes\nthe answer is 42\n")
    write("folder/a b.txt", "with a blank")
    write("folder/quote's.txt", "with a quote")
    data("photo.jpg", PNG)  # the bytes count, not the name
    data("report.pdf", b"%PDF-1.7\n")
    data("bad.bin", b"abc\xff\xfe")
    write("empty.txt", "")
    os.mkfifo("pipe")


def test_attach():
    """console: .attach adds files to the next message only, in place; lists them, and takes them back"""
    files()
    write("play.json", json.dumps([
        {"expect": {"contains": ["<file name=\"notes.md\">\n# Notes\nthe answer is 42\n</file>\n\n<file name=\"folder/a b.txt\">",
                                 "with a blank", "what is this"], "parts": ["image/png", "application/pdf"]},
         "text": "seen"},
        {"expect": {"parts": []}, "text": "nothing new"}]))
    c = Console("-m", "script:play.json", columns=110)
    c.talk(r"""
lua> .attach
nothing is attached: .attach FILE ... adds files to the next message
lua> .attach -
nothing was attached
lua> .attach photo.jpg
photo.jpg  (image/png, 28 bytes)
they go with the next message; .attach - takes them back
lua> .attach -
taken back: photo.jpg
lua> .attach notes.md folder/a\ b.txt
notes.md  (text, 25 bytes)
folder/a b.txt  (text, 12 bytes)
they go with the next message; .attach - takes them back
lua> .attach "photo.jpg" *.pdf
notes.md  (text, 25 bytes)
folder/a b.txt  (text, 12 bytes)
photo.jpg  (image/png, 28 bytes)
report.pdf  (application/pdf, 9 bytes)
they go with the next message; .attach - takes them back
lua> > what is this
with notes.md, folder/a b.txt, photo.jpg, report.pdf
seen
script:play.json, {*} s
ask> .attach
nothing is attached: .attach FILE ... adds files to the next message
ask> and now
nothing new
script:play.json, {*} s
ask> .save out.lua
2 entries in out.lua
""", "ask>")
    with open("out.lua", encoding="utf-8") as file:
        assert "-- .attach notes.md, folder/a b.txt, photo.jpg, report.pdf\n-- > what is this\n-- > and now\n" in file.read()
    c.send("\x04")
    c.wait_prompt()
    c.leave()


def test_attach_dumb():
    """console: .attach with TERM=dumb; a file is read when it is attached, and read again when it is once more"""
    files()
    write("play.json", json.dumps([{"expect": {"contains": "new text", "lacks": "old text"}, "text": "fine"}]))
    c = Console("-m", "script:play.json", env={"TERM": "dumb"})
    write("x.txt", "old text")
    c.enter(".attach x.txt")
    write("x.txt", "new text")
    assert c.enter(".attach x.txt").count("x.txt") == 1
    write("x.txt", "late text")
    assert "\nfine\n" in "\n".join(c.lines("> go", "ask>"))
    c.send("\n")
    c.wait_prompt()
    c.leave()


def test_attach_faults():
    """console: .attach says what cannot be attached and what to do; then nothing of the line is attached"""
    files()
    data("big.png", PNG + bytes(20 << 20))
    for name in ("1.txt", "2.txt"):
        data(name, b"x" * (17 << 20))
    c = Console("-m", "demo", columns=150)
    c.talk(r"""
lua> .attach notes.md nosuch.txt
lash: cannot attach nosuch.txt: No such file or directory; Tab completes the names of files
lua> .attach folder/
lash: folder/ is a directory: attach the files in it, .attach folder/*
lua> .attach bad.bin
lash: bad.bin is no UTF-8 text (byte 4), and no image (PNG, JPEG, GIF, WebP) or PDF either: convert it first
lua> .attach pipe
lash: pipe is no file that has an end: write what comes from it to a file, and attach that
lua> .attach empty.txt
lash: empty.txt is empty: there is nothing to attach
lua> .attach *.gif
lash: no file is *.gif: Tab completes the names of files
lua> .attach big.png
lash: big.png is larger than 20 MiB, more than a model takes
lua> .attach notes.md -
lash: .attach - takes back all, and stands alone; a file of that name is ./-
lua> .attach 1.txt 2.txt
lash: with 2.txt it is more than 32 MiB, more than a model can read: ask about fewer at a time (.attach - takes back what is attached)
lua> .attach
nothing is attached: .attach FILE ... adds files to the next message
""".replace("fewer at a time (.attach - takes back what is attached)", "{*}"))
    assert "Texts, images" in c.enter("?.attach") and ".attach FILE..." in c.enter("?.attach")
    c.leave()


def test_attach_refused():
    """console: files that a model refuses are not sent again with every question; they stay attached"""
    files()
    with modeld.Server([{"reply": {"status": 400, "message": "no images here"}},
                        {"reply": {"text": "well"}}]) as server:
        c = Console("-m", "openai/gpt-5", env=dict(server.env))
        c.enter(".attach photo.jpg")
        lines = c.lines("> look at it", "ask>")
        assert "lash: the files are still attached; .attach - takes them back" in lines, lines
        assert json.dumps(server.requests()[-1]["json"]).count("image/png") == 1
        c.talk("""
ask> .attach -
taken back: photo.jpg
ask> go on
well
openai/gpt-5, {*}
""", "ask>")
        c.send("\r")
        c.wait_prompt()
        c.leave()
        body = json.dumps(server.requests()[-1]["json"])
        assert "image/png" not in body and "look at it" not in body and not server.stats()["problems"], body


def test_attach_completion():
    """console: Tab completes the names of files behind .attach, several of them, with blanks and quotes"""
    files()
    c = Console()

    def completed(typed, want):
        c.send(typed + "\t")
        c.wait_line("lua> " + want)
        c.send("\x05\x15")
        c.wait_line("lua> ")
    completed(".att", ".attach")
    completed(".attach note", ".attach notes.md")
    completed(".attach notes.md pho", ".attach notes.md photo.jpg")
    completed(".attach fol", ".attach folder/")
    completed(".attach folder/a", ".attach folder/a\\ b.txt")
    completed(".attach folder/a\\ ", ".attach folder/a\\ b.txt")
    completed(".attach \"folder/a b", ".attach \"folder/a b.txt")
    completed(".attach notes.md 'folder/a", ".attach notes.md 'folder/a b.txt")
    completed(".attach folder/quo", ".attach folder/quote\\'s.txt")
    c.enter(".attach folder/quote\\'s.txt 'folder/a b.txt'")
    assert "folder/quote's.txt  (text, 12 bytes)\nfolder/a b.txt" in c.enter(".attach")
    c.leave()
