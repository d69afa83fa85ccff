"""Names for containers that nobody named. Hot path, pure but for the look at what is taken."""

from sampan.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.database.connection import Database

# docker's default where nobody named the container: an adjective and somebody's name; ours are boats and waters.
_QUALITIES = (
    "able bold brave bright calm clever deft eager fair fleet fresh gentle glad grand keen kind light lively "
    "loyal lucid merry mild neat nimble noble patient placid plain polite prompt proud quick quiet ready serene "
    "sharp silent sleek smart smooth sound spry steady still stout sturdy sure swift tidy trim true trusty vivid "
    "warm wise witty young zesty "
).split()
_BOATS = (
    "barge bark brig canoe caravel catboat clipper cog coracle curragh cutter dhow dinghy dory felucca ferry "
    "galley galleon gig gondola hooker houri junk kayak keelboat ketch knarr launch lighter longship lugger "
    "packet pinnace pontoon pram punt raft sampan schooner scow scull shallop shikara skiff skipjack sloop smack "
    "tartane tender tjalk trimaran trireme umiak wherry xebec yacht yawl "
).split()


def choose(database: "Database", id: str) -> str:
    """Return a name that no container has, from the id's digits: the same id gives the same name."""
    number = int(id[:16], 16)
    for attempt in range(100):
        count = len(_QUALITIES) * len(_BOATS)
        quality, boat = divmod((number + attempt * 7919) % count, len(_BOATS))
        name = f"{_QUALITIES[quality]}_{_BOATS[boat]}" + (str(attempt) if attempt > 20 else "")
        if database.row("SELECT 1 FROM containers WHERE name = ?", (name,)) is None:
            return name
    raise Internal("no free name was found for the container")
