"""Model, day and stage → every key of a run. The only place that spells a key.

<artifacts>/<model>/
    runs/<day>/<stage>/result.json            the commit point of a stage
    runs/<day>/<stage>/attempts/<attempt>/…   what that attempt wrote
    pages/<day>/<stage>/<attempt>/…           what people look at and no stage reads; removed when it is old
    checkpoints/<day>/<stage>/<inputs>/…      what an interrupted training goes on from; removed with its result
    sessions/<log day>/<settings>/parts/…     what each task read of a big log day
    sessions/<log day>/<settings>/…           pulled sessions, shared by every night that reads that day
    history/<number>-<kind>-<version>-….json  every change of champion, never rewritten
    vectors/<version>/<catalogue>/…           a catalogue's vectors under that version, and their manifest.json
    vectors/current.json                      the vectors that serve: a copy of their manifest
    monitoring/<day>/result.json              the champion on that day's clicks; all of them are the history
    alerts/incidents/<incident>/<number>-<state>-<cause>.json   every message, never rewritten
    alerts/sent/<message>/<channel>.json      that a channel took it
    alerts/claims/<message>/<channel>/…       who is sending it
"""

from dataclasses import dataclass
from datetime import date

# A worker of a night's search: no stage, for it leaves no result of its own.
SEARCH = "search"


@dataclass(frozen=True)
class Paths:
    """Spells the URIs of one model.

    Args:
        artifacts: The config's `storage.artifacts`, an s3:// prefix.
        model: The model's name.
    """

    artifacts: str
    model: str

    @property
    def root(self) -> str:
        """Prefix of all that belongs to the model."""
        return f"{self.artifacts}/{self.model}"

    @property
    def runs(self) -> str:
        """Prefix of every night."""
        return f"{self.root}/runs"

    def run(self, day: date) -> str:
        """Prefix of a night."""
        return f"{self.runs}/{day.isoformat()}"

    def stage(self, day: date, stage: str) -> str:
        """Prefix of one stage of a night."""
        return f"{self.run(day)}/{stage}"

    @property
    def all_sessions(self) -> str:
        """Prefix of every log day's sessions."""
        return f"{self.root}/sessions"

    def sessions(self, log_day: date, settings_digest: str) -> str:
        """Prefix of a log day's sessions, as pulled with the settings of that digest.

        The digest keeps a backfill with other settings from replacing what tonight's run reads.
        """
        return f"{self.all_sessions}/{log_day.isoformat()}/{settings_digest[:16]}"

    @staticmethod
    def part(sessions_prefix: str, number: int, of: int) -> str:
        """Prefix of what one task read of a log day that several tasks read."""
        return f"{sessions_prefix}/parts/{number}-of-{of}"

    @staticmethod
    def result(stage_prefix: str) -> str:
        """The commit point of a stage."""
        return f"{stage_prefix}/result.json"

    @staticmethod
    def attempt(stage_prefix: str, attempt: str) -> str:
        """Prefix that one attempt of a stage writes under."""
        return f"{stage_prefix}/attempts/{attempt}"

    @property
    def all_checkpoints(self) -> str:
        """Prefix of every checkpoint. Apart from the run, so that a lifecycle rule of the bucket can remove them."""
        return f"{self.root}/checkpoints"

    def checkpoints(self, day: date, stage: str) -> str:
        """Prefix of what interrupted attempts at a stage left to go on from, by their fingerprints below it."""
        return f"{self.all_checkpoints}/{day.isoformat()}/{stage}"

    @property
    def all_pages(self) -> str:
        """Prefix of every stage's pages."""
        return f"{self.root}/pages"

    def pages(self, day: date, stage: str) -> str:
        """Prefix of a stage's pages, its attempts below it. Apart from the run, so that they can be removed by age."""
        return f"{self.all_pages}/{day.isoformat()}/{stage}"

    @property
    def mlflow(self) -> str:
        """Prefix that MLflow keeps a new experiment's files under."""
        return f"{self.root}/mlflow"

    @property
    def history(self) -> str:
        """Prefix of the history of champions."""
        return f"{self.root}/history"

    def change(self, number: int, kind: str, version: str, request_sha256: str) -> str:
        """One entry of that history. Two requests for the same change at once have a key each."""
        return f"{self.history}/{number:06d}-{kind}-{version}-{request_sha256[:8]}.json"

    @property
    def all_vectors(self) -> str:
        """Prefix of all vectors."""
        return f"{self.root}/vectors"

    def vectors_of(self, version: str) -> str:
        """Prefix of all vectors under a registered version."""
        return f"{self.all_vectors}/{version}"

    def vectors(self, version: str, catalogue_sha256: str) -> str:
        """Prefix of a catalogue's vectors under a registered version."""
        return f"{self.vectors_of(version)}/{catalogue_sha256[:16]}"

    @staticmethod
    def manifest(vectors_prefix: str) -> str:
        """The commit point of a set of vectors."""
        return f"{vectors_prefix}/manifest.json"

    @property
    def current_vectors(self) -> str:
        """The pointer that says which vectors serve."""
        return f"{self.all_vectors}/current.json"

    @property
    def all_monitoring(self) -> str:
        """Prefix of the monitoring history."""
        return f"{self.root}/monitoring"

    def monitoring(self, day: date) -> str:
        """Prefix of one monitored day."""
        return f"{self.all_monitoring}/{day.isoformat()}"

    @property
    def all_alerts(self) -> str:
        """Prefix of everything about messages."""
        return f"{self.root}/alerts"

    @property
    def incidents(self) -> str:
        """Prefix of every message."""
        return f"{self.all_alerts}/incidents"

    def message(self, incident: str, number: int, state: str, cause_sha256: str) -> str:
        """One message. Two who notice the same change at once write the same key."""
        return f"{self.incidents}/{incident}/{number:06d}-{state}-{cause_sha256[:12]}.json"

    @property
    def all_sent(self) -> str:
        """Prefix of what channels took."""
        return f"{self.all_alerts}/sent"

    def sent(self, message_id: str, channel: str) -> str:
        """The mark that a channel took a message."""
        return f"{self.all_sent}/{message_id}/{channel}.json"

    @property
    def all_claims(self) -> str:
        """Prefix of who is sending what."""
        return f"{self.all_alerts}/claims"

    def claims(self, message_id: str, channel: str) -> str:
        """Prefix of who is sending a message to a channel."""
        return f"{self.all_claims}/{message_id}/{channel}"


def stage_command(stage: str) -> str:
    """Give a stage's word on the command line: `fine_tune` → `fine-tune`."""
    return stage.replace("_", "-")
