"""Everything that is assumed about the simulated service, one field each. Guessed where no source is named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from matinee.checks import must
from matinee.times import instant


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a `StreamingService` is made of. Only the retry and outage shapes follow a source; the rest is assumption.

    Nothing here was fitted to a policy. Rates are chosen so that published orders of magnitude hold: a member gives up
    after 10 to 20 titles (Gomez-Uribe and Hunt, 2015), 6 to 18% of first charges fail, three reasons make nine tenths
    of the failures.

    Example:
        >>> Settings(members=500, days=30).slots
        10
    """

    # Size and calendar
    members: int = 2_000
    """Members; one profile each."""
    titles: int = 400
    """Titles in the catalogue, those launching later included."""
    days: int = 60
    """Days of history that the frames hold."""
    live_days: int = 60
    """Days after the history for which the world can still respond (licences, outages and prices are laid out)."""
    start: datetime = datetime(2026, 3, 2, tzinfo=UTC)
    """First instant of the history; taken at midnight UTC. All clocks of the world are UTC."""
    slots: int = 10
    """Titles on the home page that the service showed during the history."""

    # Members
    dimensions: int = 8
    """Length of the latent taste vectors; genres are directions in this space."""
    kids_share: float = 0.15
    """Share of kids profiles: maturity limit 6 or 12, viewing in the afternoon."""
    joining_share: float = 0.20
    """Share of members who join during the history rather than before it: cold starts."""
    visits_per_day: float = 0.45
    """Mean visits of the home page per member and day; lognormal over members with `visits_spread`."""
    visits_spread: float = 0.6
    """Standard deviation of the logarithm of a member's visit rate."""
    consent_personalization: float = 0.90
    """Share of members who allow personalization."""
    consent_research: float = 0.85
    """Share of those members who also allow their data to train models."""

    # Titles
    launching_share: float = 0.25
    """Share of titles launched during the history or the live days rather than before."""
    licensed_share: float = 0.60
    """Share of titles licensed from a provider with a window that ends; the others are owned and stay."""
    renewed_share: float = 0.35
    """Share of ended licences that come back after a gap of 10 to 40 days."""
    quality_spread: float = 1.0
    """Standard deviation of quality, which drives how much of a title is watched once begun."""
    appeal_quality: float = 0.5
    """Correlation of appeal (who begins it) with quality (who stays): below 1, so clicks are no measure of quality."""

    # What makes a member begin a title that is looked at (logits)
    play_base: float = -3.6
    """Logit of a play of an average title at which the member looks."""
    play_taste: float = 0.9
    """Weight of the standardised match of member and title."""
    play_appeal: float = 0.45
    """Weight of the title's appeal, the same for everybody: popularity."""
    play_quality: float = 0.15
    """Weight of quality on beginning a title: word of mouth."""
    play_buzz: float = 0.9
    """Extra at launch, halving every `buzz_half_days`."""
    buzz_half_days: float = 7.0
    """Half-life of the launch's extra, days."""
    play_short_on_phone: float = 0.5
    """Weight of shortness (in standard deviations of the runtime's logarithm) on a phone."""
    fatigue: float = 0.5
    """Loss per log(1 + impressions without a play), impressions decayed by `fatigue_half_days`."""
    fatigue_half_days: float = 7.0
    """Half-life of an impression, days."""
    watched_aversion: float = 2.5
    """Loss for a title already watched to its end; in proportion for one watched in part."""

    # How a page is read: slot after slot (a cascade)
    patience: float = 0.93
    """Probability of looking at the next slot after one that was not played."""
    stop_after_play: float = 0.85
    """Probability that a play ends the visit."""
    browse_seconds: float = 8.0
    """Seconds a member looks at one slot."""

    # How long it is watched: completion = U ** (1 / k), k = exp(a + b match + c quality)
    stay_base: float = 0.3
    """a: k of an average title and match is exp(a), mean completion k / (k + 1)."""
    stay_taste: float = 0.35
    """b: weight of the match."""
    stay_quality: float = 0.45
    """c: weight of quality."""
    qualified_seconds: float = 1_200.0
    """A play longer than this counts as a qualified play in the true values."""

    # Reporting
    offline_share: float = 0.12
    """Share of plays on phones and tablets made offline and reported hours later."""
    offline_delay_hours: float = 10.0
    """Mean delay of such a report beyond two hours, exponential."""
    organic_share: float = 0.25
    """Visits of the history that also bring a play found without the page (search, a link)."""

    # Prices and charges (all money in cents of EUR)
    weekly_share: float = 0.35
    """Share of members on a weekly pass; the others pay monthly."""
    funds_rate: float = 0.060
    """Mean share of first charges that meet insufficient funds; rises with days since payday and price over budget."""
    hold_rate: float = 0.012
    """Share of charges that meet a temporary hold."""
    expired_rate: float = 0.008
    """Share of charges that meet an expired card."""
    hard_rate: float = 0.008
    """Share of charges that meet a closed account, a lost card or the like: never approved."""
    acceptance: float = 0.955
    """Share of payable charges that an average processor gets approved abroad, outside outages."""
    local_acquiring: float = 0.8
    """Logit gained by a processor in the countries where it acquires locally."""
    processor_spread: float = 0.15
    """Standard deviation of a processor's own logit (payments notes, section 8)."""
    segment_spread: float = 0.30
    """Standard deviation per country and processor (section 8)."""
    amount_spread: float = 0.25
    """Standard deviation over processors of the slope in log(amount / median)."""
    night_spread: float = 0.30
    """Standard deviation over processors of the logit between 22:00 and 06:00."""
    drift_decay: float = 0.995
    """Hourly memory of the drift per country and processor (section 8, per 500 transactions there)."""
    drift_spread: float = 0.03
    """Hourly innovation of the drift."""
    outages_per_month: float = 2.0
    """Outages a processor has in 30 days."""
    outage_hours: tuple[float, float] = (2.0, 14.0)
    """Shortest and longest outage, uniform."""
    outage_factor: float = 0.35
    """Acceptance is multiplied by this during an outage (section 8)."""
    late_webhook_share: float = 0.01
    """Share of payment answers that are known hours late."""
    cancelling_share: float = 0.03
    """Share of declined attempts after which the member cancels; the history then stops charging."""
    waiting_minor_per_day: float = 20.0
    """What a day without access costs in the value of a whole recovery: half of a 12 EUR month is lost in 30 days."""
    give_up_days: float = 28.0
    """Days after the first decline at which an invoice counts as lost (section 9)."""

    def __post_init__(self) -> None:
        must(self.members, "members", typ=int, ge=2)
        must(self.titles, "titles", typ=int, ge=2 * self.slots)
        must(self.days, "days", typ=int, ge=1)
        must(self.live_days, "live_days", typ=int, ge=0)
        must(self.slots, "slots", typ=int, ge=1)
        must(self.dimensions, "dimensions", typ=int, ge=1)
        shares = ("kids_share", "joining_share", "consent_personalization", "consent_research", "launching_share",
                  "licensed_share", "renewed_share", "appeal_quality", "patience", "stop_after_play", "offline_share",
                  "organic_share", "weekly_share", "outage_factor", "late_webhook_share")  # fmt: skip
        for name in shares:
            must(getattr(self, name), name, ge=0, le=1)
        must(self.acceptance, "acceptance", gt=0, lt=1)
        must(self.funds_rate + self.hold_rate + self.expired_rate + self.hard_rate, "sum of the decline rates", lt=0.5)
        midnight = instant(self.start, "start").replace(hour=0, minute=0, second=0, microsecond=0)
        object.__setattr__(self, "start", midnight)

    @property
    def calendar_days(self) -> int:
        """Days that are laid out: history and live."""
        return self.days + self.live_days
