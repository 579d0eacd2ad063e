package whatisup

import (
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"  shop 1 ":              "shop 1",
		"Ünï 日本 🙂":               "Ünï 日本 🙂",
		"👩\u200d💻":               "👩\u200d💻",
		"❤\ufe0f":                "❤\ufe0f",
		"می\u200cخواهم":          "می\u200cخواهم",
		"e\u0301":                "e\u0301",
		strings.Repeat("é", 100): strings.Repeat("é", 100),
		".":                      ".",
	} {
		if name, problem := ParseName(given); name != want || problem != "" {
			t.Errorf("%q: %q, %s", given, name, problem)
		}
	}
	for _, given := range []string{
		"", " ", "\u00a0\u3000", strings.Repeat("é", 101), "a\nb", "a\u0085b", "a\x00",
		"\u200b", "\ufeff", "\u3164", "\u115f", "\u2800", "\u200d", "\u0301", "\ufe0f",
		"evil\u202egpj.exe", "a\u2066b", "a\u200fb", "a\u200bb", "a\u00adb", "a\u2028b",
		"a\u200d", "\u200da", "a \u200db", "a\u200d\u200db", "\U000e0041x",
	} {
		if name, problem := ParseName(given); problem == "" {
			t.Errorf("%q is a name: %q", given, name)
		}
	}
}
