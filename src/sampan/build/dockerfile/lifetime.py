"""Until when bases get security fixes: facts of python.org (PEP 602 and its like) and of Debian's LTS. Data, pure."""

# Minor release -> the day of the end (devguide, "Status of Python versions").
PYTHON = {
    "2.7": "2020-01-01",
    "3.4": "2019-03-18",
    "3.5": "2020-09-30",
    "3.6": "2021-12-23",
    "3.7": "2023-06-27",
    "3.8": "2024-10-07",
    "3.9": "2025-10-31",
    "3.10": "2026-10-31",
    "3.11": "2027-10-31",
    "3.12": "2028-10-31",
    "3.13": "2029-10-31",
    "3.14": "2030-10-31",
}
# Suite or version -> the day on which LTS ends (wiki.debian.org/LTS).
_DEBIAN = (
    (("stretch", "9"), "2022-06-30"),
    (("buster", "10"), "2024-06-30"),
    (("bullseye", "11"), "2026-08-31"),
    (("bookworm", "12"), "2028-06-30"),
    (("trixie", "13"), "2030-06-30"),
)
NEWEST = "3.13"


def ended(repository: str, tag: str, today: str) -> tuple[str, str] | None:
    """Return what has come to its end (`Python 3.9`) and when, of the image `repository:tag`; None for nothing known.

    `today` is YYYY-MM-DD, as all dates here are, so that they compare as texts.
    """
    name = repository.rpartition("/")[2]
    words = tag.split("-")
    if name in {"python", "pypy"}:
        version = ".".join(words[0].split(".")[:2])
        if today > PYTHON.get(version, "9999"):
            return f"Python {version}", PYTHON[version]
    for names, end in _DEBIAN:
        is_named = names[0] in words or (name == "debian" and words[0].split(".")[0] == names[1])
        if is_named and today > end:
            return f"Debian {names[0]}", end
    return None
