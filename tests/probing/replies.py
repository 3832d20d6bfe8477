"""A right and a wrong reply to each probe whose check does not name the answer."""

# ruff: noqa: E501

REPLIES: dict[str, tuple[str, str]] = {
    "fa-13": ("Mary Shelley", "Percy Shelley"),
    "fo-01": ('{"name": "Lena", "age": 31}', '{"name": "Lena", "age": "31"}'),
    "fo-02": ('["blue", "green", "red"]', '["red", "green", "blue"]'),
    "fo-03": (
        '{"item": "notebook", "quantity": 12, "unit_price": 3.4}',
        '{"item": "notebook", "quantity": "12", "unit_price": 3.4}',
    ),
    "fo-04": ('["Porto", "Lyon", "Ghent"]', '["Porto", "Lyon", "Gent"]'),
    "fo-05": ('{"1": 1, "2": 4, "3": 9, "4": 16}', '{"1": 1, "2": 4, "3": 9}'),
    "fo-06": (
        '[{"id": 2, "city": "Bergen", "open": true}, {"id": 7, "city": "Turin", "open": false}]',
        '[{"id": 7, "city": "Turin", "open": false}, {"id": 2, "city": "Bergen", "open": true}]',
    ),
    "fo-07": ('{"from": "09:30", "to": "12:45", "room": null}', '{"from": "09:30", "to": "00:45", "room": null}'),
    "fo-08": ('{"topic": "delivery", "urgent": true}', '{"topic": "delivery", "urgent": "yes"}'),
    "fo-09": ('{"min": 4, "max": 11, "mean": 7, "median": 7}', '{"min": 4, "max": 11, "mean": 7, "median": 4}'),
    "fo-10": (
        '{"first": "Ingrid", "middle": null, "last": "Solberg"}',
        '{"first": "Ingrid", "middle": "", "last": "Solberg"}',
    ),
    "fo-11": (
        '{"tree": {"value": 5, "left": {"value": 2, "left": null, "right": {"value": 3, "left": null, "right": null}}, "right": {"value": 8, "left": null, "right": null}}}',
        '{"tree": {"value": 5, "left": {"value": 2, "left": {"value": 3, "left": null, "right": null}, "right": null}, "right": {"value": 8, "left": null, "right": null}}}',
    ),
    "fo-12": ('{"no": 4, "rain": 1, "flowers": 2, "bees": 1}', '{"no": 3, "rain": 1, "flowers": 2, "bees": 1}'),
    "fo-13": ("[]", "{}"),
    "fo-14": ("[1, 1, 2, 3, 5, 8]", "[0, 1, 1, 2, 3, 5]"),
    "fo-15": ('["coast", "sun", "regrets"]', '["#coast", "#sun", "#regrets"]'),
    "fo-16": (
        '{"3": ["ash", "elm", "oak"], "4": ["pine"], "5": ["birch", "maple"]}',
        '{"3": ["oak", "elm", "ash"], "4": ["pine"], "5": ["birch", "maple"]}',
    ),
    "in-01": ("DONE", "Done!"),
    "in-02": ("The sea keeps all its secrets.", "The sea is very deep."),
    "in-03": ("A small cat ran to a warm and sunny spot.", "The cat ran to a warm spot in town today."),
    "in-04": ("- apple\n- pear\n- plum", "1. apple\n2. pear\n3. plum"),
    "in-05": ("1) owl\n2) fox\n3) hare\n4) bee", "1. Owl\n2. Fox\n3. Hare\n4. Bee"),
    "in-06": ("Milky light\nOver hills\nOnly owls\nNotice it", "Over the hills\nMilky light\nOwls fly\nNight is here"),
    "in-07": ("Thank you for your patience. Your order is on its way.", "Thank you for waiting!"),
    "in-08": (
        "Ice floats because it is less dense than liquid water.",
        "Ice floats because water expands when it freezes.",
    ),
    "in-09": ('"We open at noon"', "We open at noon"),
    "in-10": ("Seven silent swans swam south.", "Seven swans swam slowly to shore."),
    "in-11": ("2;4;6;8;10;12", "2; 4; 6; 8; 10; 12"),
    "in-12": ("name,price\ntea,2.50\ncoffee,3.00", "name,price\ntea, 2.5\ncoffee, 3"),
    "in-13": ("balcony harvest pilgrim", "balcony harvests pilgrim"),
    "in-14": ("Yes.", "The sun is a star."),
    "in-15": ("a, c, e", "a, b, c, e"),
    "in-16": ("The lantern by the river glowed quietly.", "Quietly the river carried the lantern."),
    "in-17": ("^\\d{3}$", "\\d\\d\\d"),
    "in-18": ("The council changed the rule.", "The council has changed the rule."),
    "in-19": ("$12,345.06", "$12,345.60"),
}
