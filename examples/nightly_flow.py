"""The nightly run as a Metaflow flow: each step is one verb, and a verb that is run again costs nothing or changes nothing.

Run it: `python examples/nightly_flow.py run --studio acme --decision home`. Metaflow is not a dependency of Matinee.
"""

import subprocess
import sys

from metaflow import FlowSpec, Parameter, retry, step


class NightlyFlow(FlowSpec):
    """Seal, train, evaluate, publish; a person releases in the morning."""

    studio = Parameter("studio", help="folder of the studio", required=True)
    decision = Parameter("decision", help="name of the decision", default="home")

    def matinee(self, *verb: str) -> None:
        """Run one verb; a status other than 0 fails the step, and Metaflow tries it again."""
        subprocess.run([sys.executable, "-m", "matinee", *verb, "--studio", self.studio], check=True)

    @retry(times=2)
    @step
    def start(self) -> None:
        """The log becomes tables."""
        self.matinee("seal")
        self.next(self.train)

    @step
    def train(self) -> None:
        """The recipe of the decision's domain; it saves policies and releases none."""
        self.matinee("train", self.decision)
        self.next(self.evaluate)

    @step
    def evaluate(self) -> None:
        """Evidence for every saved policy, or a refusal."""
        self.matinee("evaluate", self.decision)
        self.next(self.publish)

    @retry(times=2)
    @step
    def publish(self) -> None:
        """What serving reads; running servers take it up by themselves."""
        self.matinee("publish")
        self.next(self.end)

    @step
    def end(self) -> None:
        """Exit status 1 when something is broken."""
        self.matinee("doctor")


if __name__ == "__main__":
    NightlyFlow()
