"""Names of people, places and streets that the invented texts share."""

from __future__ import annotations

FIRST_NAMES = (
    "Ada", "Anselm", "Berta", "Bruno", "Carla", "Conrad", "Delia", "Edwin", "Elsa", "Emil", "Flora", "Gerda",
    "Gilbert", "Hanna", "Hector", "Ida", "Ilse", "Jasper", "Judith", "Karl", "Lena", "Leopold", "Magda",
    "Marcus", "Martha", "Nadia", "Nils", "Olga", "Oscar", "Paula", "Petra", "Quentin", "Rafael", "Rosa",
    "Ruben", "Selma", "Silas", "Tessa", "Theo", "Ursula", "Victor", "Wanda", "Yvonne", "Zeno",
)  # fmt: skip
LAST_NAMES = (
    "Abel", "Ashdown", "Barlow", "Bergman", "Caldwell", "Cross", "Dahl", "Drummond", "Easton", "Falk",
    "Fenwick", "Garner", "Grieve", "Hale", "Holloway", "Ivory", "Jansen", "Keller", "Kirby", "Lang",
    "Lorimer", "Marsh", "Mercer", "Nolan", "Norwood", "Osgood", "Palmer", "Pryce", "Quill", "Radford",
    "Rowe", "Sandoval", "Stroud", "Thorne", "Turner", "Underhill", "Vance", "Voss", "Warren", "Winslow",
)  # fmt: skip
PLACES = (
    "Alder Reach", "Ashby Cross", "Barrow Quay", "Birchmoor", "Blackford", "Briar Hill", "Calder Mouth",
    "Chapel Green", "Copper Ferry", "Cranfield", "Dunmere", "Eastlock", "Elder Bridge", "Fallow End",
    "Foxholt", "Glassworth", "Greyhaven", "Harrow Mill", "Hazel Bank", "High Tarn", "Ironside", "Kestrel Bay",
    "Kingsmead", "Larkfield", "Linden Vale", "Long Acre", "Marlow Weir", "Middle Tarn", "Northgate",
    "Oakhurst", "Old Harbour", "Pine Ridge", "Quarry Hill", "Reedham", "Saltmarsh", "Silver Beck",
    "Stone Ford", "Thornwick", "Upper Lea", "Westering",
)  # fmt: skip
STREETS = (
    "Mill Lane", "Bridge Street", "Church Row", "Canal Side", "Station Road", "Orchard Way", "Market Place",
    "Tanner Street", "Hill Rise", "Garden Walk", "Quay Street", "Smith Yard", "School Lane", "Well Court",
)  # fmt: skip
