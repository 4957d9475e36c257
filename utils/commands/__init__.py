"""What commands share beside types of arguments: groups of flags, files of flags, jobs of videos, results, records."""
