"""How files are read that people made: text, arrays, folders in a person's order, frames and rates of videos."""
