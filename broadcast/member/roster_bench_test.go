package member_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"parallax/broadcast/member"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// benchHistory is a group of a thousand: six admins adopt and add them, then
// change roles, remove and admit again, and begin epochs, 5,000 operations in
// all. every is after how many operations the admins hear of each other: 1 is
// one line, more is that many operations at once.
func benchHistory(tb testing.TB, every int, sign bool) (*member.Genesis, []*member.Operation) {
	const members, total = 1000, 5000
	h := newHistory(0)
	main := h.roster()
	var admins []keys.SigningPrivate
	for i := range 6 {
		admins = append(admins, signer(byte(i+1)))
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	seat := func(i int) wire.Seat { return wire.Seat(wire.Hash("seat", wire.U64(uint64(i)))) }
	var pending []*member.Operation
	busy := map[wire.Seat]bool{}
	meet := func() {
		for _, o := range pending {
			if _, err := main.Add(o); err != nil {
				tb.Fatal(err)
			}
		}
		pending, busy = nil, map[wire.Seat]bool{}
	}
	made := map[int]*member.Operation{}
	do := func(who int, b member.OperationBody) {
		o := main.Next(admins[who].Public(), at, b)
		if last := made[who]; last != nil && last.Sequence >= o.Sequence { // not told to the others yet
			o.Sequence, o.Previous = last.Sequence+1, last.Digest()
		}
		if sign {
			o.Sign(admins[who])
		}
		made[who] = o
		pending = append(pending, o)
		h.ops = append(h.ops, o)
	}
	for i := 1; i < len(admins); i++ {
		do(0, member.OpAdd{Seat: member.NewSeat(h.gid, admins[i].Public()), Role: member.RoleAdmin})
		meet()
	}
	for n := 0; len(h.ops) < total; n++ {
		who := len(h.ops) % len(admins)
		s := seat(n)
		if n >= members {
			s = seat(rnd.IntN(members))
			if busy[s] {
				continue
			}
		}
		busy[s] = true
		m, in := main.State().Member(s)
		switch {
		case !in:
			do(who, member.OpAdd{Seat: s, Role: member.RoleMember})
		case n%3 == 0:
			do(who, member.OpRemove{Seat: s})
		default:
			do(who, member.OpRole{Seat: s, Role: 3 - m.Role}) // member to reader and back
		}
		if len(pending) >= every {
			meet()
		}
	}
	return h.genesis, h.ops
}

func benchMerge(b *testing.B, every int, sign, shuffle bool, verify keys.Verify) {
	g, ops := benchHistory(b, every, sign)
	if shuffle { // within what may wait
		rnd := rand.New(rand.NewPCG(3, 4))
		for at := 0; at < len(ops); at += 500 {
			part := ops[at:min(at+500, len(ops))]
			rnd.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		r := member.NewRoster(g, verify)
		for _, o := range ops {
			r.Add(o)
		}
		if r.Len() != len(ops) {
			b.Fatalf("%d of %d accepted", r.Len(), len(ops))
		}
		r.State()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(ops)), "µs/operation")
}

// BenchmarkRosterMerge: 5,000 operations, 1,000 seats, from nothing.
func BenchmarkRosterMerge(b *testing.B) {
	for _, every := range []int{1, 6, 60} {
		b.Run(fmt.Sprintf("at-once=%d", every), func(b *testing.B) { benchMerge(b, every, false, false, anySignature) })
	}
	b.Run("at-once=6/Ed25519", func(b *testing.B) { benchMerge(b, 6, true, false, keys.Ed25519) })
	b.Run("at-once=6/shuffled", func(b *testing.B) { benchMerge(b, 6, false, true, anySignature) })
}

// BenchmarkRosterAdd: one more operation to 5,000 that stand.
func BenchmarkRosterAdd(b *testing.B) {
	for _, state := range []bool{false, true} {
		b.Run(fmt.Sprintf("state=%v", state), func(b *testing.B) {
			g, ops := benchHistory(b, 1, false)
			r := member.NewRoster(g, anySignature)
			for _, o := range ops {
				r.Add(o)
			}
			var next []*member.Operation
			prepare := func() {
				s := member.NewRoster(g, anySignature)
				for _, o := range ops {
					s.Add(o)
				}
				next = next[:0]
				for i := range 1000 {
					o := s.Next(signer(1).Public(), at, member.OpRevoke{Invite: [16]byte{byte(i), byte(i >> 8)}})
					s.Add(o)
					next = append(next, o)
				}
			}
			prepare()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i == len(next) {
					b.StopTimer()
					r = member.NewRoster(g, anySignature)
					for _, o := range ops {
						r.Add(o)
					}
					i = 0
					b.StartTimer()
				}
				if _, err := r.Add(next[i]); err != nil {
					b.Fatal(err)
				}
				if state {
					r.State()
				}
				i++
			}
		})
	}
}

// BenchmarkRosterHostile: a removed admin goes on with old heads for 1,000
// operations, each void, beside 1,000 of an honest one.
func BenchmarkRosterHostile(b *testing.B) {
	h := newHistory(3)
	for i := 1; i < 3; i++ {
		h.made(0, h.views[0].Next(h.keys[0], at, member.OpAdd{Seat: h.seats[i], Role: member.RoleAdmin}))
	}
	for i := range 3 {
		h.tells(0, i)
	}
	h.made(2, h.views[2].Next(h.keys[2], at, member.OpRemove{Seat: h.seats[1]}))
	for i := range 1000 {
		h.made(1, h.views[1].Next(h.keys[1], at, member.OpAdd{Seat: wire.Seat(wire.Hash("x", wire.U64(uint64(i)))), Role: member.RoleMember}))
		h.made(2, h.views[2].Next(h.keys[2], at, member.OpAdd{Seat: wire.Seat(wire.Hash("y", wire.U64(uint64(i)))), Role: member.RoleMember}))
	}
	b.ReportAllocs()
	for b.Loop() {
		r := h.roster(h.ops...)
		if len(r.State().Void) != 1000 {
			b.Fatal(len(r.State().Void))
		}
	}
}
