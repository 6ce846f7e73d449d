package simnet

import (
	"strings"
	"testing"
	"time"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/simnet/adversary"
)

// What a newcomer gets of a further relay's board, besides the one that is listed.
const (
	// agreedBoardBytes: what members and the newcomer itself write while it reads
	// may make it look twice.
	agreedBoardBytes = 8 << 10
	// differentBoardBytes: a walk to one entry, and what agreeing costs.
	differentBoardBytes = 16 << 10
)

// boardBytes counts what relays send one member of their boards.
func boardBytes(s *Scenario, name string) (pages, nodes map[string]int) {
	pages, nodes = map[string]int{}, map[string]int{}
	for _, r := range s.Relays {
		r.Gate.Keep = func(at adversary.Place, m proto.Message) bool {
			if s.Caller(at.Link) == name {
				switch m.(type) {
				case proto.BoardPage:
					pages[r.name] += proto.FrameHead + len(proto.Encode(m).Body)
				case proto.BoardNodes:
					nodes[r.name] += proto.FrameHead + len(proto.Encode(m).Body)
				}
			}
			return false
		}
	}
	return pages, nodes
}

// A newcomer lists one relay's board. Every other relay of five costs it the root
// that the relay signs anyway, and one that hides an entry a walk to it: which is
// noticed as it was when all boards were listed.
func TestBoardIsListedOnce(t *testing.T) {
	for _, hides := range []bool{false, true} {
		s := NewScenario(Config{Seed: 7, Limit: 1 << 40})
		s.Relay.Limits.PostsPerMinute = 1 << 20
		s.AddRelays(5)
		l, err := layDown(s, 60, member.CreateGroup{})
		if err != nil {
			t.Fatal(err)
		}
		l.wake(l.node(0), 0)
		if err := s.Run(20 * time.Minute); err != nil {
			t.Fatal(err)
		}
		n := s.AddMember("newcomer")
		liar, hidden := s.Relays[4], l.seats[20]
		if hides {
			if err := s.Board(liar, n.name, func(x *secrets, name string, value []byte, _ uint64) []byte {
				if name == "announcement/"+hidden.seat.String() || name == "admission/"+hidden.seat.String() {
					return nil
				}
				return value
			}); err != nil {
				t.Fatal(err)
			}
		}
		pages, nodes := boardBytes(s, n.name)
		if err := s.Join(n); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(time.Minute); err != nil {
			t.Fatal(err)
		}
		if len(pages) != 1 {
			t.Errorf("hides %v: %d boards are listed: %v", hides, len(pages), pages)
		}
		t.Logf("hides %v: pages %v, nodes %v", hides, pages, nodes)
		for _, r := range s.Relays {
			most := agreedBoardBytes
			if hides && (r == liar || pages[liar.name] > 0) {
				most = differentBoardBytes
			}
			if nodes[r.name] > most {
				t.Errorf("hides %v: the board of %s costs %d bytes, at most %d", hides, r.name, nodes[r.name], most)
			}
		}
		v, err := s.Do(n, member.GetStatus{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range v.(member.Status).Members {
			for i, r := range v.(member.Status).Relays {
				want := member.Mark("matched")
				if hides && i == 4 && m.Name == hidden.name {
					want = "silent"
				}
				if !m.Own && m.Marks[r.Label] != want {
					t.Errorf("hides %v: %s is %s on %s, want %s", hides, m.Name, m.Marks[r.Label], r.Label, want)
				}
			}
		}
		events, err := s.History(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		told := false
		for _, e := range events {
			told = told || e.Kind == member.EventRelay && strings.Contains(e.Text, "does not show "+hidden.name)
		}
		if told != hides {
			t.Errorf("hides %v: told %v", hides, told)
		}
	}
}

// The relay that is listed first says nothing, or the links are slow: the others
// are read all the same, within the joining's time.
func TestFirstBoardIsMute(t *testing.T) {
	for seed := range uint64(4) {
		s := NewScenario(Config{Seed: seed})
		s.AddRelays(5)
		if err := s.Found(s.AddMember("alice"), member.CreateGroup{}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"bob", "carol"} {
			if err := s.Join(s.AddMember(name)); err != nil {
				t.Fatal(err)
			}
		}
		n := s.AddMember("newcomer")
		var first *Relay
		asked := map[broadcast.Link]bool{}
		for _, r := range s.Relays {
			r.Gate.Keep = func(at adversary.Place, m proto.Message) bool {
				if _, page := m.(proto.BoardPage); page && s.Caller(at.Link) == n.name {
					if first == nil {
						first = r
					}
					asked[at.Link] = true
					return r == first
				}
				return false
			}
		}
		begun := s.Elapsed()
		if err := s.Join(n); err != nil {
			t.Fatal(err)
		}
		if d := s.Elapsed() - begun; d > member.DefaultDeadline+5*time.Second {
			t.Errorf("seed %d: joining took %v", seed, d)
		}
		v, err := s.Do(n, member.GetStatus{})
		if err != nil {
			t.Fatal(err)
		}
		if st := v.(member.Status); len(st.Members) != 4 {
			t.Errorf("seed %d: %d members are known", seed, len(st.Members))
		}
		t.Logf("seed %d: %s was mute, %d boards were listed, joined after %v", seed, first.name, len(asked), s.Elapsed()-begun)
	}
}
