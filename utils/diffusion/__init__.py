"""The arithmetic of sampling and training: noise levels, solvers, guidance, and the settings of a sampling."""
