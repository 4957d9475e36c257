"""English plurals of the names of objects, as captions count them."""

IRREGULAR = {"child": "children", "foot": "feet", "goose": "geese", "mouse": "mice", "ox": "oxen", "tooth": "teeth"}
IRREGULAR |= {"die": "dice", "louse": "lice", "quiz": "quizzes", "cactus": "cacti"}
SAME = {
    "aircraft",
    "bison",
    "deer",
    "fish",
    "hovercraft",
    "moose",
    "offspring",
    "salmon",
    "series",
    "sheep",
    "shrimp",
    "spacecraft",
}
SAME |= {"cattle", "people", "police", "species", "squid", "swine", "trout"}
PAIRS = {
    "binoculars",
    "clothes",
    "glasses",
    "goggles",
    "headphones",
    "jeans",
    "pajamas",
    "pants",
    "pliers",
    "scissors",
    "shorts",
}
PAIRS |= {"skis", "stairs", "sunglasses", "tights", "tongs", "trousers", "tweezers"}
WITH_ES = {"echo", "hero", "mango", "mosquito", "potato", "tomato", "tornado", "torpedo", "volcano"}
WITH_VES = {"calf", "elf", "half", "hoof", "leaf", "life", "loaf", "scarf", "sheaf", "shelf", "thief", "wolf"}
WITH_VES |= {"bookshelf", "housewife", "knife", "penknife", "wife", "midwife"}
NO_MEN = {"caiman", "german", "human", "ottoman", "roman", "shaman", "talisman"}


def plural(name: str) -> str:
    """The plural of a noun; of several words, of the last one: "wine glass" becomes "wine glasses"."""
    head, space, last = name.rpartition(" ")
    return head + space + _plural_word(last)


def _plural_word(word: str) -> str:
    lower = word.lower()
    if lower in SAME | PAIRS:
        return word
    if lower in IRREGULAR:
        return word[0] + IRREGULAR[lower][1:]
    if lower.endswith("man") and lower not in NO_MEN:
        return word[:-2] + "en"
    if lower in WITH_VES:
        return word.removesuffix("e")[:-1] + "ves"
    if lower.endswith("sis"):
        return word[:-2] + "es"
    if lower.endswith(("s", "x", "z", "ch", "sh")) or lower in WITH_ES:
        return word + "es"
    if lower.endswith("y") and lower[-2:-1] not in ("a", "e", "i", "o", "u", ""):
        return word[:-1] + "ies"
    return word + "s"
