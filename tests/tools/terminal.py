"""Drive a program through a pseudo-terminal: terminal.py PROGRAM ARGS... < script

The script's lines: `send TEXT` types TEXT and return, `keys HEX` types bytes, `await TEXT`
waits until TEXT has appeared since the last step, `signal NAME`, `end` waits for the end.
Prints what the terminal showed; the exit status is the program's, 99 where a wait was in vain.
"""
import os, pty, select, signal, sys, termios, time

LIMIT = 60

def main():
    steps = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    shown, seen = b"", 0

    def read_more(deadline):
        nonlocal shown
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.time()))
        if not ready:
            return None
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
            while rest.encode() not in shown[seen:]:
                if not read_more(deadline):
                    give_up(step)
            seen = shown.index(rest.encode(), seen) + len(rest.encode())
        elif verb == "signal":
            os.kill(child, getattr(signal, "SIG" + rest))
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
    sys.stdout.buffer.write(shown)
    sys.stdout.flush()
    sys.exit(os.waitstatus_to_exitcode(status) & 255)

main()
