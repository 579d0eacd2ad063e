package whatsapp

import "strings"

// canonical is the form under which WhatsApp knows a number. In three countries
// it is not the one that people write: Brazil's mobile numbers have a ninth digit
// which WhatsApp keeps for area codes below 31 and leaves out for the others;
// Mexico's had a 1 and Argentina's a 9 after the country code.
func canonical(number string) string {
	switch {
	case len(number) == 13 && strings.HasPrefix(number, "521"):
		return "52" + number[3:]
	case len(number) == 13 && strings.HasPrefix(number, "549"):
		return "54" + number[3:]
	case len(number) == 13 && strings.HasPrefix(number, "55") && number[2:4] >= "31" && number[4] == '9':
		return number[:4] + number[5:]
	case len(number) == 12 && strings.HasPrefix(number, "55") && number[2:4] < "31" && number[4] >= '6':
		return number[:4] + "9" + number[4:]
	}
	return number
}

// digits is a number as people write it, without what they put between.
func digits(text string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("+ -.()", r) {
			return -1
		}
		return r
	}, text)
}

// personNamed is who a control call means by a number in any form.
func personNamed(world, number string) (person, error) {
	number = digits(number)
	if !validNumber(number) {
		return person{}, badRequest("a phone number has 7 to 15 digits")
	}
	world = orWorld(world)
	if !validWorld(world) {
		return person{}, badRequest("a world's name has 1 to 128 letters, digits, or - _ . : #")
	}
	return person{world, canonical(number)}, nil
}
