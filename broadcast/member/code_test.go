package member_test

import (
	"errors"
	"strings"
	"testing"

	"parallax/broadcast/member"
)

const (
	someDigits = "574701285361454832201279625437634870541198263595057393283868"
	someDevice = "0123456789abcdef01234567"
)

// TestCodeText pins the text forms of protocol.md section 5.6.
func TestCodeText(t *testing.T) {
	for want, c := range map[string]member.Code{
		"PARALLAX-CODE:1:PAIR:" + someDigits:                                      {Kind: member.CodePair, Digits: someDigits},
		"PARALLAX-CODE:1:GROUP:" + someDigits + ":" + strings.ToUpper(someDevice): {Kind: member.CodeGroup, Digits: someDigits, Device: someDevice},
		someDigits: {Digits: someDigits},
	} {
		if got := c.String(); got != want {
			t.Errorf("%+v is written %s, want %s", c, got, want)
		}
		for _, text := range []string{want, strings.ToLower(want), " " + want[:30] + "\n" + want[30:] + "\r\n", spaced(want, 5), spaced(want, 4), spaced(want, 1)} {
			if got, err := member.ParseCode(text); err != nil || got != c {
				t.Errorf("%q is read as %+v, %v", text, got, err)
			}
		}
	}
}

func spaced(s string, every int) string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 && i%every == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// TestCodeForm: what is no code is refused, and the group of five that is
// wrong is named.
func TestCodeForm(t *testing.T) {
	groups := strings.Fields(spaced(someDigits, 5))
	with := func(i int, g string) string {
		c := append([]string(nil), groups...)
		c[i] = g
		return strings.Join(c, " ")
	}
	for text, want := range map[string]string{
		"":                                    "group 1 of five is missing",
		"hello":                               `group 1 of five is "hello"`,
		with(2, "1234"):                       `group 3 of five is "1234"`,
		with(2, "123456"):                     "it goes on after group 12",
		with(6, "6348O"):                      `group 7 of five is "6348O"`,
		with(11, ""):                          "group 12 of five is missing",
		with(4, ""):                           "group 12 of five is missing",
		someDigits[:59]:                       `group 12 of five is "8386"`,
		someDigits[:7] + "x" + someDigits[8:]: `group 2 of five is "12x53"`,
		someDigits + "1":                      `it goes on after group 12 of five with "1"`,
		with(0, "٥٧٤٧٠"):                      `group 1 of five is "٥٧٤٧٠"`,
		strings.Repeat("1", member.MaxCodeText+1): "too long",
		"parallax-code:":                                                   "no version",
		"parallax-code:x:pair:" + someDigits:                               "no version",
		"parallax-code:1":                                                  "a part is missing",
		"parallax-code:1:all:" + someDigits:                                "neither of a pair nor of a group",
		"parallax-code:1:pair":                                             "3 parts, not 4",
		"parallax-code:1:pair:" + someDigits + ":":                         "5 parts, not 4",
		"parallax-code:1:pair:" + someDigits + "1":                         "goes on after group 12",
		"parallax-code:1:pair:" + someDigits[:58]:                          `group 12 of five is "838"`,
		"parallax-code:1:group:" + someDigits:                              "4 parts, not 5",
		"parallax-code:1:group:" + someDigits + ":":                        "not 24 hex digits",
		"parallax-code:1:group:" + someDigits + ":" + someDevice + "0":     "not 24 hex digits",
		"parallax-code:1:group:" + someDigits + ":" + someDevice[1:] + "g": "not 24 hex digits",
	} {
		if c, err := member.ParseCode(text); !errors.Is(err, member.ErrCodeForm) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", text, c, err, want)
		}
	}
	if _, err := member.ParseCode("parallax-code:2:pair:x"); !errors.Is(err, member.ErrNewerFormat) {
		t.Errorf("a later version: %v", err)
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add(someDigits)
	f.Add(spaced(someDigits, 5))
	f.Add("PARALLAX-CODE:1:PAIR:" + someDigits)
	f.Add("parallax-code:1:group:" + someDigits + ":" + someDevice)
	f.Add("parallax-code:2:")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := member.ParseCode(text)
		if err != nil {
			if c != (member.Code{}) {
				t.Fatalf("%q: %+v beside %v", text, c, err)
			}
			return
		}
		if again, err := member.ParseCode(c.String()); err != nil || again != c || len(c.Digits) != 60 {
			t.Fatalf("%q is %+v, written and read %+v, %v", text, c, again, err)
		}
	})
}

func (n *memberNode) member(name string) member.MemberStatus {
	n.w.t.Helper()
	for _, m := range n.must(member.GetStatus{}).(member.Status).Members {
		if m.Name == name {
			return m
		}
	}
	n.w.t.Fatalf("%s does not know %s", n.name, name)
	return member.MemberStatus{}
}

// TestConfirm: two devices compare their codes; what was confirmed outlives a
// restart, wrong codes and the other kind of code, and ends by undoing it.
func TestConfirm(t *testing.T) {
	w := newWorld(t, 3, "Ann", "Bob", "Cy")
	w.group(false)
	ann, bob := w.nodes[0], w.nodes[1]
	pair := bob.must(member.GetCode{Member: "Ann"}).(member.CodeInfo)
	all := bob.must(member.GetCode{}).(member.CodeInfo)
	cys := w.nodes[2].must(member.GetCode{Member: "Ann"}).(member.CodeInfo)
	if !strings.HasPrefix(pair.Text, "PARALLAX-CODE:1:PAIR:") || all.Text[:22] != "PARALLAX-CODE:1:GROUP:" || all.Own != "Bob" || all.Kind != member.CodeGroup {
		t.Fatalf("%+v, %+v", pair, all)
	}
	for name, c := range map[string]struct {
		wish member.ConfirmCode
		want error
	}{
		"Cy's code":               {member.ConfirmCode{Member: "Bob", Code: cys.Code}, member.ErrCodeDiffers},
		"one digit":               {member.ConfirmCode{Member: "Bob", Code: string('0'+(pair.Code[0]-'0'+1)%10) + pair.Code[1:]}, member.ErrCodeDiffers},
		"no code":                 {member.ConfirmCode{Member: "Bob", Code: pair.Code[1:]}, member.ErrCodeForm},
		"the group's digits":      {member.ConfirmCode{Member: "Bob", Code: all.Code}, member.ErrCodeKind},
		"the group's text":        {member.ConfirmCode{Member: "Bob", Code: all.Text}, member.ErrCodeKind},
		"the pair's as group's":   {member.ConfirmCode{Member: "Bob", Code: pair.Code, Group: true}, member.ErrCodeKind},
		"the pair's text, too":    {member.ConfirmCode{Member: "Bob", Code: pair.Text, Group: true}, member.ErrCodeKind},
		"wrong digits of a group": {member.ConfirmCode{Member: "Bob", Code: cys.Code, Group: true}, member.ErrCodeDiffers},
		"of nobody":               {member.ConfirmCode{Code: pair.Code}, member.ErrNoSuch},
		"of oneself":              {member.ConfirmCode{Member: "Ann", Code: pair.Code}, member.ErrNoSuch},
	} {
		if v, err := ann.do(c.wish); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v; want %v", name, v, err, c.want)
		}
	}
	if m := ann.member("Bob"); m.Verified != nil {
		t.Fatalf("wrong codes marked %+v", m.Verified)
	}
	v := ann.must(member.ConfirmCode{Member: "Bob", Code: pair.Text}).(member.ConfirmInfo)
	if !v.Verified || v.Kind != member.CodePair || !v.Usable || v.Same != 0 {
		t.Errorf("confirmed %+v", v)
	}
	check := func(when string) {
		t.Helper()
		m, cy := ann.member("Bob"), ann.member("Cy")
		if m.Verified == nil || m.Verified.Earlier || m.Verified.By != member.CodePair || m.Verified.Time.IsZero() || cy.Verified != nil || cy.SameOn != "" {
			t.Errorf("%s: Bob %+v, Cy %+v %q", when, m.Verified, cy.Verified, cy.SameOn)
		}
		if s := ann.must(member.GetStatus{}).(member.Status); s.Verified != 1 {
			t.Errorf("%s: %d members are verified in person", when, s.Verified)
		}
	}
	check("at once")
	if m := bob.member("Ann"); m.Verified != nil {
		t.Error("Bob's device has a mark that Bob did not make")
	}
	ann.restart()
	check("after a restart")
	ann.must(member.SendText{Text: "hello"})
	if _, err := ann.do(member.ConfirmCode{Member: "Bob", Code: cys.Code}); !errors.Is(err, member.ErrCodeDiffers) {
		t.Error(err)
	}
	ann.restart()
	check("after a wrong code")

	ann.must(member.UndoConfirm{Member: "Bob"})
	ann.restart()
	if m := ann.member("Bob"); m.Verified != nil {
		t.Errorf("undone, after a restart: %+v", m.Verified)
	}

	// The code of the group, typed: it confirms Bob, Cy is the same there.
	if v := ann.must(member.ConfirmCode{Member: "Bob", Code: all.Code, Group: true}).(member.ConfirmInfo); v.Same != 1 || v.Kind != member.CodeGroup {
		t.Errorf("confirmed %+v", v)
	}
	ann.restart()
	if m, cy := ann.member("Bob"), ann.member("Cy"); m.Verified == nil || m.Verified.By != member.CodeGroup || cy.Verified != nil || cy.SameOn != "Bob" {
		t.Errorf("after a restart: Bob %+v, Cy %+v %q", m.Verified, cy.Verified, cy.SameOn)
	}
	if a := ann.alarms(); len(a) > 0 {
		t.Errorf("alarms: %q", a)
	}
}
