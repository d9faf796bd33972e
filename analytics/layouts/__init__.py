"""How rows are laid out: the optimiser, landmarks, and rows that are placed among others."""
