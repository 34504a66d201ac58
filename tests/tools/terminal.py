"""Drive a program through a pseudo-terminal: terminal.py [--pipe FILE] PROGRAM ARGS... < script

The script's lines: `send TEXT` types TEXT and return, `keys HEX` types bytes, `await TEXT`
waits until TEXT has appeared since the last step, in whatever colours, `signal NAME`,
`pause SECONDS`, `end` waits for the end. With --pipe the program's standard output is a pipe instead, and a full one: the
program comes to rest in its first write, which `rest` waits for; `flow` empties the pipe from
then on, and what comes through goes to FILE. Prints what the terminal showed; the exit status is the program's, 99 where a wait was in vain.
"""
import os, pty, re, select, signal, sys, termios, time

LIMIT = 60
COLOUR = rb"(?:\x1b\[[0-9;]*m)*"

def full_pipe():
    ends = os.pipe()
    os.set_blocking(ends[1], False)
    stuffing = 0
    try:
        while True:
            stuffing += os.write(ends[1], bytes(512))
    except BlockingIOError:
        os.set_blocking(ends[1], True)
    return (*ends, stuffing)

def activity(process):
    """Of all its threads: how many run or want to, and the time they took so far."""
    running, ticks = 0, 0
    for thread in os.listdir("/proc/%d/task" % process):
        with open("/proc/%d/task/%s/stat" % (process, thread)) as file:
            fields = file.read().rpartition(")")[2].split()
        running += fields[0] != "S"
        ticks += int(fields[11]) + int(fields[12])
    return running, ticks

def main():
    steps = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    command, file = sys.argv[1:], None
    if command[0] == "--pipe":
        file, command = command[1], command[2:]
        pipe, inner, stuffing = full_pipe()
    child, terminal = pty.fork()
    if child == 0:
        if file:
            os.dup2(inner, 1)
        os.execv(command[0], command)
    shown, seen, passed, flowing = b"", 0, b"", []
    if file:
        os.close(inner)

    def read_more(deadline):
        nonlocal shown, passed
        ready, _, _ = select.select([terminal] + flowing, [], [], max(0, deadline - time.time()))
        if not ready:
            return None
        if ready[-1] in flowing:
            block = os.read(pipe, 65536)
            passed += block
            if not block:
                flowing.clear()
            if len(ready) == 1:
                return b"to be continued"
        try:
            block = os.read(terminal, 65536)
        except OSError:      # the other side is closed
            block = b""
        shown += block
        return block

    def give_up(step):
        sys.stdout.buffer.write(shown)
        sys.stdout.flush()
        print("\nterminal.py: in vain: " + step)
        time.sleep(0.5)      # a program that is ending says how
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            print("terminal.py: the program ended: %d" % os.waitstatus_to_exitcode(status))
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        sys.exit(99)

    for step in steps:
        verb, _, rest = step.partition(" ")
        deadline = time.time() + LIMIT
        if verb == "send" or verb == "keys" and rest not in ("03", "0a"):
            # An editor shows its prompt before it takes over the keys; what comes between is the
            # terminal's own, which shows text twice and keeps Ctrl-D. Only Ctrl-C and return come at any time.
            ready = time.time() + 2
            while termios.tcgetattr(terminal)[3] & termios.ICANON and time.time() < ready:
                time.sleep(0.005)
        if verb == "send":
            seen = len(shown)
            os.write(terminal, rest.encode() + b"\r")
        elif verb == "keys":
            seen = len(shown)
            os.write(terminal, bytes.fromhex(rest))
        elif verb == "await":
            wanted = re.compile(COLOUR.join(re.escape(bytes([byte])) for byte in rest.encode()))
            while not (found := wanted.search(shown, seen)):
                if not read_more(deadline):
                    give_up(step)
            seen = found.end()
        elif verb == "signal":
            os.kill(child, getattr(signal, "SIG" + rest))
        elif verb == "rest":
            quiet, before = 0, None
            while quiet < 20:
                read_more(time.time() + 0.02)
                now = activity(child)
                quiet = quiet + 1 if now == before and not now[0] else 0
                before = now
                if time.time() > deadline:
                    give_up(step)
        elif verb == "pause":
            time.sleep(float(rest))
        elif verb == "flow":
            flowing.append(pipe)
        elif verb == "end":
            while read_more(deadline):
                pass
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.time() > deadline:
            give_up("the end")
        time.sleep(0.02)
    while flowing and (block := os.read(pipe, 65536)):
        passed += block
    if file:
        with open(file, "wb") as target:
            target.write(passed[stuffing:])
    sys.stdout.buffer.write(shown)
    sys.stdout.flush()
    sys.exit(os.waitstatus_to_exitcode(status) & 255)

main()
