#!/usr/bin/env python3
"""Renames ctmon's JSON of schema version 2 to version 3, by the table in CHANGELOG.md.

    contrib/schema-2-to-3.py < old.jsonl > new.jsonl      one object a line
    contrib/schema-2-to-3.py --compare OLD_CTMON NEW_CTMON RECORDING...

--compare replays each recording with both programs, renames what the old one wrote and prints each line that differs.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys


class NotConverted(Exception):
    """Why a line is none of version 2."""


# The table is read where it is written: the script stays in the source tree.
CHANGELOG = pathlib.Path(__file__).resolve().parent.parent / "CHANGELOG.md"
# Longest line that is read.
LINE_BYTES = 16 << 20
# Lines of a kind have the members of others, too.
PARTS = {"status": ["start", "tick"], "node": ["start", "tick"], "probes": ["tick"]}
SIGNS = {"dropped": "table_full_drops", "evicted": "early_drops"}


@functools.cache
def table():
    """Rows of the table: kind, old name, new name, note; names without their backticks."""
    rows = []
    for line in CHANGELOG.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "in JSON of":
            kind, old, new, note = cells
            rows.append((kind, old.replace("`", ""), new.strip("`"), note))
    if not rows:
        raise NotConverted(f"{CHANGELOG} has no table")
    return rows


def rename(value, rules, path=""):
    """A value with the members below it renamed. rules: for paths of members and for values."""
    if isinstance(value, list):
        return [rename(one, rules, path + "[]") for one in value]
    if not isinstance(value, dict):
        return rules.get(f"{path} = {value}", (value, ""))[0]
    out = {}
    for key, member in value.items():
        inner = f"{path}.{key}" if path else key
        new, note = rules.get(inner, (inner, ""))
        if new == "removed":
            continue
        member = rename(member, rules, inner)
        if note == "divided by 100" and member is not None:
            member = member / 100
        if key == "signs":
            member = ",".join(SIGNS.get(sign, sign) for sign in member.split(","))
        out[new.rsplit(".", 1)[-1]] = member
    return out


def facts(value):
    """Facts of doctor that are not known."""
    if isinstance(value, list):
        return [facts(one) for one in value]
    if not isinstance(value, dict):
        return value
    is_unknown = list(value) == ["unknown"]
    return {"unavailable" if is_unknown else key: facts(one) for key, one in value.items()}


def convert(line):
    """A line of version 2 as version 3 has it."""
    if not isinstance(line, dict):
        raise NotConverted("it is no JSON object")
    if line.get("schema_version") != 2:
        raise NotConverted(f"its schema_version is {json.dumps(line.get('schema_version'))[:40]}, not 2")
    if "kind" not in line and "columns" not in line:
        raise NotConverted("it has no kind: export the recording anew instead of renaming a table")
    kind = line.get("kind", "history")
    kinds = [kind, *PARTS.get(kind, [])]
    rules = {old: (new, note) for of, old, new, note in table() if of in kinds}
    # Columns are a list of names.
    rules.update({old.replace(" = ", "[] = "): new for old, new in rules.items() if old.startswith("columns")})
    line = rename(line, rules)
    if "facts" in line:
        line["facts"] = facts(line["facts"])
    line["schema_version"] = 3
    return line


def without_new(line):
    """A line of version 3 without the members that version 2 has not."""
    added = {new.rsplit(".", 1)[-1] for _, old, new, _ in table() if old == "new"}
    for netns in line.get("netns", []):
        for name in added:
            netns.pop(name, None)
    return line


def convert_text(text):
    """The same, of a text of any content."""
    try:
        return convert(json.loads(text))
    except NotConverted:
        raise
    except RecursionError:
        raise NotConverted("it is nested too deep") from None
    except ValueError as error:
        raise NotConverted(f"it is no JSON: {error}") from None
    except (AttributeError, TypeError) as error:
        raise NotConverted(f"a member has another type than in version 2: {error}") from None


def replay(program, recording):
    command = [program, "replay", recording, "--speed", "max", "--output", "json"]
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    if ended.returncode != 0:
        raise NotConverted(f"{program} replay {recording} ended with {ended.returncode}")
    return ended.stdout.splitlines()


def compare(old, new, recordings):
    """The number of lines that differ."""
    differ = 0
    for recording in recordings:
        before = [convert_text(line) for line in replay(old, recording)]
        after = [without_new(json.loads(line)) for line in replay(new, recording)]
        if len(before) != len(after):
            differ += 1
            print(f"{recording}: {len(before)} lines, now {len(after)}")
        pairs = enumerate(zip(before, after), 1)
        wrong = [(at, was, now) for at, (was, now) in pairs if was != now]
        for at, was, now in wrong:
            print(f"{recording}:{at}\n- {json.dumps(was)}\n+ {json.dumps(now)}")
        print(f"{recording}: {len(after)} lines, {len(wrong)} differ")
        differ += len(wrong)
    return differ


def main():
    arguments = sys.argv[1:]
    if len(arguments) >= 4 and arguments[0] == "--compare":
        sys.exit(1 if compare(arguments[1], arguments[2], arguments[3:]) else 0)
    if arguments in (["-h"], ["--help"]):
        print(__doc__.strip())
        return
    if arguments:
        raise NotConverted(f"it takes no argument {arguments[0]!r}, it reads the standard input: --help")
    for at, line in enumerate(iter(lambda: sys.stdin.buffer.readline(LINE_BYTES), b""), 1):
        if not line.strip():
            continue
        try:
            if len(line) == LINE_BYTES:
                raise NotConverted(f"it has {LINE_BYTES} bytes or more")
            print(json.dumps(convert_text(line), separators=(",", ":")))
        except NotConverted as error:
            raise NotConverted(f"line {at} is not converted: {error}") from None
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # Nobody reads any more; nor does the interpreter complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except (NotConverted, OSError, ValueError) as error:
        sys.exit(f"{pathlib.Path(__file__).name}: {error}")
