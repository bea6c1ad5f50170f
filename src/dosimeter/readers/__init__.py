"""Reader studies: what people see of a perturbation. No torch: the images of a study are drawn when it is made."""
