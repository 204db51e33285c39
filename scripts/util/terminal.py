"""A terminal that is recorded: what commands print there, as a picture that moves (SVG)."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
import unicodedata
from xml.sax.saxutils import escape

ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>]")
FRAME = 0.1
LINE, CHARACTER, SIZE = 19, 8.43, 14


class Terminal:
    """Runs commands in a pseudo-terminal, and keeps what its screen showed when."""

    def __init__(self, columns=92, rows=24):
        self.columns, self.rows = columns, rows
        self.screen, self.row, self.column = [""], 0, 0
        self.clock, self.frames, self.rest = 0.0, [], ""

    def _put(self, text):
        """Text without controls; a line that is full goes on in the next."""
        while True:
            while len(self.screen) <= self.row:
                self.screen.append("")
            part, text = text[: self.columns - self.column], text[self.columns - self.column :]
            line = self.screen[self.row].ljust(self.column)
            self.screen[self.row] = line[: self.column] + part + line[self.column + len(part) :]
            self.column += len(part)
            if not text:
                return
            self.row, self.column = self.row + 1, 0

    def _control(self, numbers, letter):
        count = int(numbers.split(";")[0]) if re.match(r"\d", numbers) else 1
        if letter == "A":
            self.row = max(0, self.row - count)
        elif letter == "B":
            self.row += count
        elif letter == "G":
            self.column = count - 1
        elif letter == "K" and self.row < len(self.screen):
            self.screen[self.row] = "" if numbers == "2" else self.screen[self.row][: self.column]
        elif letter == "J":
            del self.screen[self.row + 1 :]

    def feed(self, text):
        text, self.rest = self.rest + text, ""
        at = 0
        while at < len(text):
            character = text[at]
            if character == "\x1b":
                found = ESCAPE.match(text, at)
                if not found:
                    self.rest = text[at:]
                    return
                if found.group(2):
                    self._control(found.group(1), found.group(2))
                at = found.end()
                continue
            if character == "\n":
                self.row += 1
                self.column = 0
                self._put("")
            elif character == "\r":
                self.column = 0
            elif character >= " ":
                self._put(character)
            at += 1

    def show(self, seconds):
        """The screen stays as it is for so long."""
        lines = [line.rstrip() for line in self.screen]
        self.frames.append((self.clock, lines))
        self.clock += seconds

    def type(self, command):
        self.feed("$ ")
        self.show(0.6)
        for letter in command:
            self.feed(letter)
            self.show(0.035)
        self.show(0.3)
        self.feed("\r\n")

    def run(self, command, folder, environment, slower=1.0):
        """Types a command, runs it in a shell, and shows what it prints as it does; its exit code."""
        self.type(command)
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        process = subprocess.Popen(
            ["bash", "-c", command], stdin=follower, stdout=follower, stderr=follower, cwd=folder, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        begun, is_open, last = time.monotonic(), True, b""
        while is_open:
            due = begun + FRAME / slower
            while (left := due - time.monotonic()) > 0:
                if select.select([leader], [], [], left)[0]:
                    try:
                        more = os.read(leader, 65536)
                    except OSError:
                        more = b""
                    if not more:
                        is_open = False
                        break
                    text = (last + more).decode("utf-8", "ignore")
                    last = b""
                    self.feed(text)
            begun = due
            self.show(FRAME)
        os.close(leader)
        self.show(0.9)
        return process.wait(60)

    def svg(self, title):
        """Each line is there from when it was shown to when it changed; it begins again after a while."""
        self.show(4)
        end = self.clock
        # What scrolls out moves the rest up: lines keep their number, and the picture shows them all.
        most = max(len(lines) for _, lines in self.frames)
        spans = []
        for row in range(most):
            begun = text = None
            for at, lines in [*self.frames, (end, [])]:
                now = lines[row] if row < len(lines) else ""
                if now != text:
                    if text:
                        spans.append((row, text, begun, at))
                    begun, text = at, now
        width, height = round(self.columns * CHARACTER + 32), most * LINE + 60
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>text{{font:{SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d8dee9;white-space:pre}}",
            ".c{fill:#8fd3a8}",
        ]
        # One animation for each pair of times.
        times = sorted({(begun, until) for _, _, begun, until in spans})
        for number, (begun, until) in enumerate(times):
            a, b = (f"{100 * moment / end:.3f}%" for moment in (begun, until))
            first = "" if begun == 0 else "0%{opacity:0}"
            final = "" if until >= end else f"{b},100%{{opacity:0}}"
            out.append(f"@keyframes k{number}{{{first}{a}{{opacity:1}}{final}}}")
            out.append(f".t{number}{{opacity:0;animation:k{number} {end:.1f}s step-end infinite}}")
        # Who wants nothing to move sees the end.
        out.append("@media (prefers-reduced-motion:reduce){text{animation:none!important}")
        out.append(f"{','.join(f'.t{n}' for n, (_, until) in enumerate(times) if until >= end) or '.none'}{{opacity:1}}}}</style>")
        out.append(f'<rect width="{width}" height="{height}" rx="10" fill="#1d2230"/>')
        out += [f'<circle cx="{22 + 20 * n}" cy="20" r="6" fill="{color}"/>' for n, color in enumerate(("#e06c75", "#e5c07b", "#98c379"))]
        number = {pair: n for n, pair in enumerate(times)}
        for row, text, begun, until in spans:
            kind = "c " if text.startswith("$ ") else ""
            y = 56 + row * LINE
            wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
            length = round((len(text) + wide) * CHARACTER, 1)
            out.append(
                f'<text class="{kind}t{number[begun, until]}" x="16" y="{y}" textLength="{length}" lengthAdjust="spacingAndGlyphs">'
                f"{escape(text)}</text>"
            )
        out.append("</svg>\n")
        return "\n".join(out)
