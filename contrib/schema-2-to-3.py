#!/usr/bin/env python3
"""Renames ctmon's JSON of schema version 2 to version 3, by the table in CHANGELOG.md.

    contrib/schema-2-to-3.py < old.jsonl > new.jsonl      one object a line
    contrib/schema-2-to-3.py --compare OLD_CTMON NEW_CTMON RECORDING...

--compare replays each recording with both programs, renames what the old one wrote and prints each line that differs.
"""

import json
import pathlib
import subprocess
import sys

# The table is read where it is written: the script stays in the source tree.
CHANGELOG = pathlib.Path(__file__).resolve().parent.parent / "CHANGELOG.md"
# Lines of a kind have the members of others, too.
PARTS = {"status": ["start", "tick"], "node": ["start", "tick"], "probes": ["tick"]}
SIGNS = {"dropped": "table_full_drops", "evicted": "early_drops"}


def table():
    """Rows of the table: kind, old name, new name, note; names without their backticks."""
    rows = []
    for line in CHANGELOG.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "in JSON of":
            kind, old, new, note = cells
            rows.append((kind, old.replace("`", ""), new.strip("`"), note))
    return rows


ROWS = table()


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


class NotConverted(Exception):
    """Why a line is none of version 2."""


def convert(line):
    """A line of version 2 as version 3 has it."""
    if not isinstance(line, dict):
        raise NotConverted("it is no JSON object")
    if line.get("schema_version") != 2:
        raise NotConverted(f"its schema_version is {line.get('schema_version')}, not 2")
    if "kind" not in line and "columns" not in line:
        raise NotConverted("it has no kind: export the recording anew instead of renaming a table")
    kind = line.get("kind", "history")
    kinds = [kind, *PARTS.get(kind, [])]
    rules = {old: (new, note) for of, old, new, note in ROWS if of in kinds}
    # Columns are a list of names.
    rules.update({old.replace(" = ", "[] = "): new for old, new in rules.items() if old.startswith("columns")})
    line = rename(line, rules)
    if "facts" in line:
        line["facts"] = facts(line["facts"])
    line["schema_version"] = 3
    return line


def without_new(line):
    """A line of version 3 without the members that version 2 has not."""
    added = {new.rsplit(".", 1)[-1] for _, old, new, _ in ROWS if old == "new"}
    for netns in line.get("netns", []):
        for name in added:
            netns.pop(name, None)
    return line


def replay(program, recording):
    command = [program, "replay", recording, "--speed", "max", "--output", "json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def compare(old, new, recordings):
    """The number of lines that differ."""
    differ = 0
    for recording in recordings:
        before = [convert(line) for line in replay(old, recording)]
        after = [without_new(line) for line in replay(new, recording)]
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
        sys.exit(f"it takes no argument {arguments[0]!r}: it reads the standard input\n\n{__doc__.strip()}")
    for at, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            print(json.dumps(convert(json.loads(line)), separators=(",", ":")))
        except (json.JSONDecodeError, NotConverted) as error:
            sys.exit(f"line {at} is not converted: {error}")


if __name__ == "__main__":
    main()
