"""How far a perturbation may be seen: display steps, fidelity, the image's own noise, a model observer."""
