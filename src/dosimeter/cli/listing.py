"""What `dosimeter list` shows."""

from dosimeter.errors import DosimeterError, did_you_mean


def listing(what: str) -> list[tuple[str, str]]:
    """Return (name, note) of the models, cohorts, attacks or engines this version knows."""
    if what == "models":
        from dosimeter.models.backbones import BACKBONES

        return [(backbone.name, backbone.note) for backbone in BACKBONES.values()]
    if what == "cohorts":
        from dosimeter.cohorts import COHORTS

        return list(COHORTS.items())
    if what == "attacks":
        from dosimeter.attacks.fgsm import PRESETS

        return [
            (
                f"fgsm ({preset.name})",
                f"{preset.attack.loss}, {preset.attack.channels}, {'/'.join(preset.storages)}: {preset.note}",
            )
            for preset in PRESETS.values()
        ]
    if what == "engines":
        from dosimeter.engines.choose import ENGINES

        return [
            ("auto", "the fastest that agrees with torch on the study's own images"),
            *((name, note) for name, (_, note) in ENGINES.items()),
        ]
    raise DosimeterError(
        f"'{what}' cannot be listed. {did_you_mean(what, ('models', 'cohorts', 'attacks', 'engines'))}"
    )
