package simnet

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/wire"
)

// catalogue are the attacks of the threat model that have a script: all but
// sybil, correlate, flood and mobile, which are questions of numbers.
var catalogue = map[string]bool{
	"substitute": true, "eclipse": true, "target": true, "timing": true, "race": true, "withhold": true,
	"replay": true, "reorder": true, "rollback": true, "split": true, "equivocate": true, "insider": true,
	"frame": true, "noreceipt": true, "downgrade": true, "poison": true,
}

// outcome is how an attack ends. Whatever the attack: nobody honest is convicted,
// set aside or blamed, nothing is shown twice, and nobody takes another list of
// relays than the link's.
type outcome struct {
	convicted string   // relays, by their own signatures
	blamed    string   // members, by two texts of theirs
	leaked    []string // texts that a planted seat read
	lost      []string // TEXT>MEMBER: honest texts that an honest member of that time was not shown
	kept      string   // honest members that could not join
	unnoticed bool     // no honest member was told of anything
	unaware   []string // RELAY>MEMBER: honest members in the group without the evidence
	told      string   // what somebody honest is told, among other things: the forgery got as far as it should
}

// outcomes of the attacks. Where something leaks or is lost, the coalition is as
// large as the threat model says it has to be.
var outcomes = map[string]outcome{
	"substitute":         {convicted: "R2"},
	"substitute-insider": {convicted: "R2"},
	// A seat that is let in openly reads, and everybody sees it.
	"substitute-letin-insider": {leaked: []string{"hello erin", "welcome, erin"}, told: "or mallory misreports"},
	"eclipse":                  {convicted: "R1 R2", lost: []string{"for bob only>bob"}},
	"eclipse-insider": {leaked: []string{"for bob only"}, unnoticed: true,
		lost: []string{"for bob only>alice", "for bob only>bob", "for bob only>carol", "where is erin>erin"}},
	"eclipse-crossing":      {convicted: "R1 R2 R3", lost: []string{"for bob only>alice", "for bob only>bob", "for bob only>carol"}},
	"target":                {convicted: "R1 R2", leaked: []string{"at once"}, lost: []string{"at once>bob"}},
	"target-insider":        {convicted: "R1 R2"},
	"timing":                {convicted: "R2"},
	"timing-insider":        {convicted: "R2"},
	"race":                  {convicted: "R1 R2"},
	"race-insider":          {convicted: "R1 R2"},
	"withhold":              {unnoticed: true},
	"withhold-insider":      {unnoticed: true},
	"replay":                {convicted: "R2"},
	"replay-insider":        {convicted: "R2"},
	"reorder":               {convicted: "R2"},
	"reorder-insider":       {convicted: "R2", blamed: "mallory"},
	"rollback":              {convicted: "R2"},
	"rollback-insider":      {convicted: "R2"},
	"rollback-board":        {convicted: "R2"},
	"split":                 {convicted: "R2"},
	"split-insider":         {convicted: "R2"},
	"equivocate":            {blamed: "mallory"},
	"equivocate-insider":    {blamed: "mallory"}, // by what she says after the second text
	"equivocate-keys":       {},                  // two successors of its announcement
	"equivocate-newkey":     {},
	"insider":               {convicted: "R1 R2"},
	"insider-all":           {told: "It is not shown as alice's"}, // what all relays hid is asked for
	"frame":                 {convicted: "R2"},
	"frame-insider":         {convicted: "R2"},
	"noreceipt":             {},
	"noreceipt-insider":     {},
	"downgrade":             {convicted: "R2"},
	"downgrade-insider":     {kept: "erin"},
	"poison":                {told: "another one under its number that does not open"},
	"poison-insider":        {told: "another one under its number that does not open"},
	"split-restart":         {convicted: "R2"},
	"split-lineage":         {convicted: "R2"},
	"split-lineage-insider": {convicted: "R2"},
	"split-lineage-leaps":   {}, // what a relay that loses data again and again would do

	// Over five relays, three of which carry each text.
	"withhold-carriers":         {unnoticed: true},
	"withhold-carriers-insider": {},
	"withhold-digests":          {unnoticed: true},
	"withhold-onlydigest":       {convicted: "R1 R2 R3 R4"},
	"frame-digests":             {convicted: "R2 R4"},
	"split-digests":             {convicted: "R2"},
	"poison-digests-insider":    {},
}

// deeds are what the insiders do in each attack that has any, beside the relays' lie.
// All of them hand their epoch keys to the relays.
//
//	accuses     every view says that a relay signed what it never signed
//	announces   digests of nothing, on all relays
//	asks        for everything that a member ever sent, again and again
//	evidences   evidence that is none
//	forges      an envelope under a member's next number, before it is there
//	greets      a hello in a member's name
//	lets in     a false seat, openly
//	misnames    a view names other texts under a member's numbers, and texts that do not exist
//	operates    a removal that does not count, and a role in a member's name, hand on as operations
//	resends     other texts as a member's, as if they had been asked for
//	seals twice two texts under one number
//	successors  two announcements after one
//	vouches     sees what a relay that forks shows the victim, and says so in its views
var deeds = map[string]string{
	"substitute-insider":        "accuses keys misnames operates", // the true bob seems false, and out
	"substitute-letin-insider":  "keys lets in misnames",
	"eclipse-insider":           "keys operates",                   // nothing crosses, and so nothing else would arrive
	"target-insider":            "evidences keys operates",         // against the honest relay, and to have the victim removed
	"timing-insider":            "accuses greets keys operates",    // the first contact is what matters
	"race-insider":              "accuses forges keys resends",     // who is first
	"withhold-insider":          "accuses asks keys",               // the others have more to answer
	"replay-insider":            "accuses asks keys",               // has repeated what the relay repeats
	"reorder-insider":           "accuses keys misnames",           // her own texts, as the relay has them
	"rollback-insider":          "accuses evidences keys operates", // against the others, while the relay has forgotten
	"split-insider":             "accuses keys misnames vouches",
	"split-lineage-insider":     "accuses evidences keys misnames",
	"equivocate-insider":        "keys misnames seals twice",
	"insider":                   "accuses asks forges keys resends",
	"insider-all":               "keys resends", // in the place of what is kept back
	"frame-insider":             "accuses evidences greets keys operates",
	"noreceipt-insider":         "accuses asks keys", // fills the outbox that gets no receipts
	"downgrade-insider":         "keys operates",     // who cannot join hears nobody
	"poison-insider":            "accuses forges greets keys resends",
	"poison-digests-insider":    "announces keys misnames",
	"withhold-carriers-insider": "announces asks keys misnames",
	"equivocate":                "seals twice",
	"poison":                    "forges",
	"eclipse-crossing":          "keys",
	"equivocate-keys":           "successors",
	"equivocate-newkey":         "successors",
}

// traces are what somebody honest is told of a deed. Those without one do nothing
// that people have to know.
var traces = map[string][]string{
	"misnames": {"mallory misreports", "mallory names another text"},
	"resends":  {"mallory passed on a text as one of"},
}

// TestAttacks runs every attack of the catalogue, as relays alone can make it and
// with insiders among the members: golden answers, and the outcome.
func TestAttacks(t *testing.T) {
	files := scripts(t)
	for name := range catalogue {
		if files[name] == "" {
			t.Errorf("the attack %q has no script", name)
		}
		if files[name+"-insider"] == "" && name != "insider" {
			t.Errorf("the attack %q has no script with insiders", name)
		}
	}
	for name, file := range files {
		if attack, _, _ := strings.Cut(name, "-"); !catalogue[attack] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, known := outcomes[name]
			if !known {
				t.Fatal("nobody said how it should end")
			}
			x := golden(t, file)
			if _, err := x.Do("evidence"); err != nil {
				t.Errorf("somebody honest is convicted: %v", err)
			}
			got := x.s.outcome(t)
			same := got.convicted == want.convicted && got.blamed == want.blamed && slices.Equal(got.leaked, want.leaked) &&
				slices.Equal(got.lost, want.lost) && got.kept == want.kept && got.unnoticed == want.unnoticed && slices.Equal(got.unaware, want.unaware)
			if !strings.Contains(got.told, want.told) {
				t.Errorf("nobody was told %q", want.told)
			}
			did := strings.Join(slices.Sorted(maps.Keys(x.s.deeds)), " ")
			if did != deeds[name] || did == "" && strings.Contains(name, "insider") {
				t.Errorf("the insiders did %q, not %q", did, deeds[name])
			}
			for deed := range x.s.deeds {
				told := func(s string) bool { return strings.Contains(got.told, s) }
				if len(traces[deed]) > 0 && !slices.ContainsFunc(traces[deed], told) {
					t.Errorf("nobody honest was told of it: an insider %s", deed)
				}
			}
			x.s.arrived(t)
			if !same {
				got.told = ""
				t.Errorf("it ended otherwise:\n%+v, not\n%+v", got, want)
			}
		})
	}
}

// arrived fails unless what insiders said beside their clients opened at somebody
// honest: a deed that reaches nobody is none.
func (s *Scenario) arrived(t *testing.T) {
	for _, m := range s.spoken {
		opened := slices.ContainsFunc(s.Members, func(n *Node) bool {
			raw, err := n.disk.Get(append(append(append(n.unit[:len(n.unit):len(n.unit)], keptReceived), m.seat[:]...), m.incarnation[:]...))
			if s.Foes[n.name] || err != nil {
				return false
			}
			r := wire.NewReader(raw)
			for r.U64(); r.Len() >= 16; {
				if first, last := r.U64(), r.U64(); first <= m.sequence && m.sequence <= last {
					return true
				}
			}
			return false
		})
		if !opened {
			t.Errorf("number %d of %s opened nowhere", m.sequence, m.by)
		}
	}
}

// keptReceived is the kind of the records of what opened: seat 32, incarnation 8.
const keptReceived = 'g'

// outcome looks at everybody honest, and at what planted seats have read.
func (s *Scenario) outcome(t *testing.T) (o outcome) {
	o.unnoticed = true
	joined := map[string]time.Time{}
	shown := map[string]map[string]bool{}
	type text struct {
		by string
		e  member.Event
	}
	var texts []text
	var convicted, blamed, kept []string
	holds := map[string]map[string]bool{} // relay, member
	for _, n := range s.Members {
		events, err := s.History(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		shown[n.name] = map[string]bool{}
		for _, e := range events {
			if !s.Foes[n.name] {
				o.told += e.Text + "\n"
			}
			switch e.Kind {
			case member.EventMessage:
				if shown[n.name][e.ID] {
					t.Errorf("%s was shown %q twice", n.name, e.Text)
				}
				shown[n.name][e.ID] = true
				if e.Own {
					texts = append(texts, text{n.name, e})
				} else if s.Planted[n.name] {
					o.leaked = append(o.leaked, e.Text)
				}
			case member.EventJoined:
				if e.Own {
					joined[n.name] = e.Time
				}
			case member.EventEvidence:
				if !s.Foes[n.name] {
					convicted = append(convicted, e.Relay)
					if holds[e.Relay] == nil {
						holds[e.Relay] = map[string]bool{}
					}
					holds[e.Relay][n.name] = true
				}
			case member.EventBlame:
				if who := s.seats[e.Seat[:8]]; s.Foes[who] {
					blamed = append(blamed, who)
				} else {
					t.Errorf("%s blames %s, who is honest: %s", n.name, who, e.Text)
				}
			}
		}
		if s.Foes[n.name] {
			continue
		}
		if _, found, _ := s.alarm(n); found {
			o.unnoticed = false
		}
		v, err := s.Do(n, member.GetStatus{})
		if err != nil {
			t.Fatalf("%s: %v", n.name, err)
		}
		st := v.(member.Status)
		if !st.Ready {
			kept = append(kept, n.name)
		}
		if len(st.Relays) != len(s.Relays) {
			t.Errorf("%s took a list of %d relays, not of %d", n.name, len(st.Relays), len(s.Relays))
		}
		for _, r := range st.Relays {
			if r.SetAside && !s.liars[r.Label] {
				t.Errorf("%s set %s aside, which is honest", n.name, r.Label)
			}
		}
	}
	for _, x := range texts {
		for _, n := range s.Members {
			if at, in := joined[n.name]; in && !s.Foes[n.name] && !s.Foes[x.by] && !at.After(x.e.Time) && !shown[n.name][x.e.ID] {
				o.lost = append(o.lost, x.e.Text+">"+n.name)
			}
		}
	}
	for relay, by := range holds {
		for _, n := range s.Members {
			if _, in := joined[n.name]; in && !s.Foes[n.name] && !by[n.name] {
				o.unaware = append(o.unaware, relay+">"+n.name)
			}
		}
	}
	slices.Sort(o.unaware)
	list := func(names []string) string {
		slices.Sort(names)
		return strings.Join(slices.Compact(names), " ")
	}
	o.convicted, o.blamed, o.kept = list(convicted), list(blamed), list(kept)
	slices.Sort(o.leaked)
	slices.Sort(o.lost)
	return o
}
