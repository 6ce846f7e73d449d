package proto

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"parallax/broadcast"
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Section 10, every row: the body byte for byte, and back.
func TestLayouts(t *testing.T) {
	seen := map[uint8]bool{}
	for _, s := range samples() {
		f := Encode(s.m)
		seen[f.Type] = true
		if want := body(t, s.layout); !bytes.Equal(f.Body, want) {
			t.Errorf("%v\n got %x\nwant %x", s, f.Body, want)
			continue
		}
		m, err := Parse(f)
		if err != nil {
			t.Errorf("%v: %v", s, err)
		} else if !reflect.DeepEqual(m, s.m) {
			t.Errorf("%v\n got %+v\nwant %+v", s, m, s.m)
		}
		if len(f.Body) > MaxBody(f.Type) {
			t.Errorf("%v: %d bytes, the cap is %d", s, len(f.Body), MaxBody(f.Type))
		}
	}
	for i, l := range layouts {
		if (l.parse != nil) != seen[uint8(i)] {
			t.Errorf("type 0x%02x: parser %v, sample %v", i, l.parse != nil, seen[uint8(i)])
		}
	}
}

// The numbers of section 10, apart from the constants that use them.
func TestTypes(t *testing.T) {
	for i, want := range []string{
		0x01: "Hello", 0x02: "Info", 0x03: "Create", 0x04: "Grant", 0x05: "Register", 0x06: "Open", 0x07: "Ack",
		0x08: "Fetch", 0x09: "Post", 0x0a: "BoardPut", 0x0b: "Admit", 0x0c: "BoardList", 0x0d: "BoardProve",
		0x0e: "StatementOf", 0x0f: "SlotBlock", 0x10: "Ping", 0x11: "Bye", 0x12: "Rotate", 0x13: "BoardWalk", 0x14: "PostDigest", 0x41: "Welcome", 0x42: "InfoIs",
		0x43: "Registered", 0x44: "Opened", 0x45: "Deliver", 0x46: "Bare", 0x47: "Entry", 0x48: "Trimmed",
		0x49: "CaughtUp", 0x4a: "Receipt", 0x4b: "NeedFanout", 0x4c: "BoardPage", 0x4d: "BoardProof",
		0x4e: "StatementIs", 0x4f: "SlotBlockIs", 0x50: "Pong", 0x51: "Refused", 0x52: "Leaving", 0x53: "DeliverDigest", 0x54: "BoardNodes", 0xff: "unknown",
	} {
		if want == "" {
			want = "unknown"
		}
		if got := Name(uint8(i)); got != want {
			t.Errorf("0x%02x is %s, want %s", i, got, want)
		}
		if got := FromMember(uint8(i)); got != (i >= 0x01 && i <= 0x14) {
			t.Errorf("0x%02x from a member: %v", i, got)
		}
	}
	for _, s := range samples() {
		if got := reflect.TypeOf(s.m).Name(); got != Name(s.m.Type()) {
			t.Errorf("%s has the type of %s", got, Name(s.m.Type()))
		}
	}
}

func TestUnknownTypes(t *testing.T) {
	for i := range 256 {
		if layouts[i].parse != nil {
			continue
		}
		want := ErrUnknownType
		if i >= 0x80 {
			want = ErrSkippable
		}
		if m, err := Parse(broadcast.Frame{Type: uint8(i)}); !errors.Is(err, want) || m != nil {
			t.Errorf("0x%02x: %v, %v", i, m, err)
		}
	}
}

// No message is a part of itself, and none goes on after its end.
func TestCutAndLengthened(t *testing.T) {
	for _, s := range samples() {
		f := Encode(s.m)
		for n := range f.Body {
			if _, err := Parse(broadcast.Frame{Type: f.Type, Body: f.Body[:n]}); err == nil {
				t.Errorf("%v: %d of %d bytes accepted", s, n, len(f.Body))
			}
		}
		if _, err := Parse(broadcast.Frame{Type: f.Type, Body: append(bytes.Clone(f.Body), 0)}); err == nil {
			t.Errorf("%v: a byte too many accepted", s)
		}
	}
}

func TestRefusedLayouts(t *testing.T) {
	post := func(change func(*Post)) Message {
		m := Post{Mailboxes: []wire.MailboxID{{1}, {2}}, Slots: fill(0, 2*88)}
		change(&m)
		return m
	}
	block := func(change func(*SlotBlockIs)) Message {
		m := SlotBlockIs{Mailboxes: []wire.MailboxID{{1}, {2}}, Slots: fill(0, 2*88)}
		change(&m)
		return m
	}
	many := make([]wire.MailboxID, MaxMailboxes+1)
	for i := range many {
		many[i] = wire.MailboxID{byte(i >> 8), byte(i)}
	}
	rotate := func(change func(*Rotate)) Message {
		m := Rotate{Rotation: 1, Posting: fill32(1), Admins: []Admin{{fill32(2), RankAdmin}, {fill32(3), RankOwner}}, Ended: []wire.MailboxID{{1}, {2}}}
		change(&m)
		return m
	}
	admins := make([]Admin, MaxAdmins+1)
	for i := range admins {
		admins[i] = Admin{fill32(byte(i)), RankOwner}
	}
	entry := func(name byte) BoardEntry { return BoardEntry{Name: fill32(name)} }
	places := func(n int) (w BoardWalk) {
		for i := range n {
			w.Places = append(w.Places, crossverify.Prefix{Len: 8, Bits: wire.Digest{byte(i)}})
		}
		return w
	}
	nodes := func(n ...crossverify.Node) Message { return BoardNodes{Places: []Subtree{{Nodes: n}}} }
	for what, c := range map[string]struct {
		m    Message
		want error // nil: accepted
	}{
		"post":                          {post(func(*Post) {}), nil},
		"mailboxes descending":          {post(func(m *Post) { m.Mailboxes[0], m.Mailboxes[1] = m.Mailboxes[1], m.Mailboxes[0] }), ErrUnsorted},
		"mailbox twice":                 {post(func(m *Post) { m.Mailboxes[1] = m.Mailboxes[0] }), ErrUnsorted},
		"too many mailboxes":            {post(func(m *Post) { m.Mailboxes = many; m.Slots = make([]byte, 88*len(many)) }), wire.ErrTooLong},
		"most mailboxes":                {post(func(m *Post) { m.Mailboxes = many[1:]; m.Slots = make([]byte, 88*MaxMailboxes) }), nil},
		"a slot too few":                {post(func(m *Post) { m.Slots = m.Slots[88:] }), ErrSlots},
		"a slot too many":               {post(func(m *Post) { m.Slots = fill(0, 3*88) }), ErrSlots},
		"any slots by hash":             {post(func(m *Post) { m.Mailboxes = nil; m.Slots = fill(0, 3) }), nil},
		"slots shorter than exceptions": {post(func(m *Post) { m.Exceptions = broadcast.Exceptions{{Index: 1, Class: 1}} }), ErrSlots},
		"exception beyond the list":     {post(func(m *Post) { m.Exceptions = broadcast.Exceptions{{Index: 2, Class: 1}} }), broadcast.ErrExceptions},
		"standing as exception":         {post(func(m *Post) { m.Exceptions = broadcast.Exceptions{{Index: 1, Class: 0}} }), broadcast.ErrExceptions},
		"longest envelope":              {post(func(m *Post) { m.Envelope = make([]byte, MaxEnvelope) }), nil},
		"envelope too long":             {post(func(m *Post) { m.Envelope = make([]byte, MaxEnvelope+1) }), wire.ErrTooLong},
		"block":                         {block(func(*SlotBlockIs) {}), nil},
		"empty block":                   {SlotBlockIs{}, nil},
		"block unsorted":                {block(func(m *SlotBlockIs) { m.Mailboxes[0] = wire.MailboxID{9} }), ErrUnsorted},
		"block too short":               {block(func(m *SlotBlockIs) { m.Slots = m.Slots[1:] }), ErrSlots},
		"slots for nobody":              {SlotBlockIs{Slots: fill(0, 88)}, ErrSlots},
		"rotation":                      {rotate(func(*Rotate) {}), nil},
		"greatest rotation":             {rotate(func(m *Rotate) { m.Rotation = 1<<64 - 1 }), nil},
		"rotation 0":                    {rotate(func(m *Rotate) { m.Rotation = 0 }), ErrRotation},
		"rotation to zeros":             {rotate(func(m *Rotate) { m.Posting = keys.PostingPublic{} }), ErrRotation},
		"no admin":                      {rotate(func(m *Rotate) { m.Admins = nil }), ErrAdmins},
		"no owner":                      {rotate(func(m *Rotate) { m.Admins = m.Admins[:1] }), ErrAdmins},
		"rank 0":                        {rotate(func(m *Rotate) { m.Admins[0].Rank = 0 }), ErrAdmins},
		"rank 3":                        {rotate(func(m *Rotate) { m.Admins[0].Rank = 3 }), ErrAdmins},
		"admins descending":             {rotate(func(m *Rotate) { slices.Reverse(m.Admins) }), ErrAdmins},
		"admin twice":                   {rotate(func(m *Rotate) { m.Admins[0] = m.Admins[1] }), ErrAdmins},
		"most admins":                   {rotate(func(m *Rotate) { m.Admins = admins[1:] }), nil},
		"too many admins":               {rotate(func(m *Rotate) { m.Admins = admins }), ErrAdmins},
		"most ended":                    {rotate(func(m *Rotate) { m.Ended = many[:MaxEnded] }), nil},
		"too many ended":                {rotate(func(m *Rotate) { m.Ended, m.Admins = many[:MaxEnded+1], m.Admins[1:] }), wire.ErrTooLong},
		"ended unsorted":                {rotate(func(m *Rotate) { slices.Reverse(m.Ended) }), ErrUnsorted},
		"token too long":                {Create{Token: make([]byte, MaxToken+1)}, wire.ErrTooLong},
		"value too long":                {BoardPut{Value: make([]byte, MaxBoardValue+1)}, wire.ErrTooLong},
		"longest value":                 {Admit{BoardPut{Value: make([]byte, MaxBoardValue)}}, nil},
		"slot too long":                 {Deliver{Slot: make([]byte, 1265)}, wire.ErrTooLong},
		"page unsorted":                 {BoardPage{Entries: []BoardEntry{entry(2), entry(1)}}, ErrUnsorted},
		"entry twice":                   {BoardPage{Entries: []BoardEntry{entry(1), entry(1)}}, ErrUnsorted},
		"page of values too long":       {BoardPage{Entries: []BoardEntry{{Value: make([]byte, MaxBoardValue+1)}}}, wire.ErrTooLong},
		"most places":                   {places(MaxWalk), nil},
		"no place":                      {places(0), ErrPlaces},
		"too many places":               {places(MaxWalk + 1), ErrPlaces},
		"a place twice":                 {BoardWalk{Places: make([]crossverify.Prefix, 2)}, ErrPlaces},
		"a place below another":         {BoardWalk{Places: []crossverify.Prefix{{}, {Len: 1}}}, ErrPlaces},
		"places descending":             {BoardWalk{Places: []crossverify.Prefix{{Len: 1, Bits: wire.Digest{0x80}}, {Len: 1}}}, ErrPlaces},
		"the two halves":                {BoardWalk{Places: []crossverify.Prefix{{Len: 1}, {Len: 1, Bits: wire.Digest{0x80}}}}, nil},
		"bits beyond the place":         {BoardWalk{Places: []crossverify.Prefix{{Len: 1, Bits: wire.Digest{0x40}}}}, crossverify.ErrPrefix},
		"nothing there":                 {nodes(crossverify.Node{}), nil},
		"one entry as nodes":            {nodes(crossverify.Node{Kind: crossverify.NodeLeaf}), crossverify.ErrNodes},
		"a fork of nothing":             {nodes(crossverify.Node{Kind: crossverify.NodeFork}, crossverify.Node{}, crossverify.Node{}), crossverify.ErrNodes},
		"longest entry there":           {BoardNodes{Places: []Subtree{{Entry: &BoardEntry{Value: make([]byte, MaxBoardValue)}}}}, nil},
		"entry there too long":          {BoardNodes{Places: []Subtree{{Entry: &BoardEntry{Value: make([]byte, MaxBoardValue+1)}}}}, wire.ErrTooLong},
		"too many answers":              {BoardNodes{Places: make([]Subtree, MaxWalk+1)}, ErrPlaces},
		"zeros shown":                   {Opened{Shown: &crossverify.Position{}}, wire.ErrFormat},
		"name not in UTF-8":             {InfoIs{Name: "\xff"}, wire.ErrFormat},
		"name too long":                 {InfoIs{Name: string(fill('n', MaxName+1))}, wire.ErrTooLong},
		"text too long":                 {Refused{Text: string(fill('n', MaxText+1))}, wire.ErrTooLong},
		"longest refusal":               {Refused{Limit: string(fill('n', MaxName)), Text: string(fill('n', MaxText))}, nil},
		"proof too long":                {BoardProof{Proof: crossverify.Proof{Siblings: make([]wire.Digest, 257)}}, wire.ErrTooLong},
		"longest proof":                 {BoardProof{Proof: crossverify.Proof{Siblings: make([]wire.Digest, 256), Occupied: true}}, nil},
	} {
		if _, err := Parse(Encode(c.m)); (c.want == nil) != (err == nil) || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

// A count alone takes no memory: a page or list that claims more than came is
// refused before anything is made for it.
func TestCountsTakeNothing(t *testing.T) {
	for _, f := range []broadcast.Frame{
		{Type: TypeBoardPage, Body: wire.AppendU32(nil, MaxBoardEntries)},
		{Type: TypeSlotBlockIs, Body: wire.AppendU32(make([]byte, 8), MaxMailboxes)},
		{Type: TypePost, Body: wire.AppendU32(make([]byte, 16+8+24+32), MaxMailboxes)},
	} {
		allocated := testing.AllocsPerRun(10, func() {
			if _, err := Parse(f); !errors.Is(err, wire.ErrShort) {
				t.Fatal(err)
			}
		})
		if allocated > 8 {
			t.Errorf("%s: %.0f allocations", Name(f.Type), allocated)
		}
	}
}

// The longest of the long frames fit their caps, and those the frame.
func TestCapsHold(t *testing.T) {
	list := make([]wire.MailboxID, MaxMailboxes)
	var first broadcast.Exceptions
	for i := range list {
		list[i] = wire.MailboxID{byte(i >> 8), byte(i)}
		first = append(first, broadcast.Exception{Index: uint16(i), Class: broadcast.FirstContact})
	}
	for _, m := range []Message{
		Post{Mailboxes: list, Exceptions: first, Envelope: make([]byte, MaxEnvelope), Slots: make([]byte, MaxSlots)},
		SlotBlockIs{Mailboxes: list, Exceptions: first, Slots: make([]byte, MaxSlots)},
	} {
		f := Encode(m)
		if len(f.Body) != MaxBody(f.Type) || 1+len(f.Body) > MaxFrame {
			t.Errorf("%s of %d bytes, cap %d", Name(f.Type), len(f.Body), MaxBody(f.Type))
		}
		if _, err := Parse(f); err != nil {
			t.Errorf("%s: %v", Name(f.Type), err)
		}
	}
	if MaxBody(0x7f) != MaxUnknown || MaxBody(0xff) != MaxUnknown {
		t.Error("unknown types have another cap")
	}
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		-time.Second:         0,
		1:                    time.Millisecond,
		time.Millisecond + 1: 2 * time.Millisecond,
		time.Second:          time.Second,
		1<<63 - 1:            (1<<32 - 1) * time.Millisecond,
		100 * 24 * time.Hour: (1<<32 - 1) * time.Millisecond,
	} {
		m, err := Parse(Encode(Leaving{Retry: d}))
		if err != nil || m.(Leaving).Retry != want {
			t.Errorf("%v: %v, %v", d, m, err)
		}
	}
}

func TestParseAliases(t *testing.T) {
	f := Encode(Post{Envelope: []byte{1}, Slots: []byte{2}})
	m, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	p := m.(Post)
	f.Body[16+8+24+32+4+4+2+4] = 9
	if p.Envelope[0] != 9 {
		t.Error("the envelope was copied")
	}
	if cap(p.Envelope) != len(p.Envelope) {
		t.Error("appending to a parsed slice would write into the frame")
	}
}

func bytesN(t *rapid.T, min, max int, what string) []byte {
	return rapid.SliceOfN(rapid.Byte(), min, max).Draw(t, what)
}

func digest(t *rapid.T, what string) wire.Digest { return wire.Digest(bytesN(t, 32, 32, what)) }

func drawMailboxes(t *rapid.T, min int) []wire.MailboxID {
	n := rapid.IntRange(min, 12).Draw(t, "mailboxes")
	var list []wire.MailboxID
	for i := range n {
		list = append(list, wire.MailboxID{byte(i), rapid.Byte().Draw(t, "mailbox")})
	}
	return list
}

func drawExceptions(t *rapid.T, count int) (e broadcast.Exceptions) {
	for i := range count {
		if c := broadcast.Class(rapid.IntRange(0, 2).Draw(t, "class")); c != broadcast.Standing {
			e = append(e, broadcast.Exception{Index: uint16(i), Class: c})
		}
	}
	return e
}

// drawWalk is a request, and an answer of another board.
func drawWalk(t *rapid.T) (w BoardWalk, n BoardNodes) {
	w.Root, n.Statement = digest(t, "root"), someStatement()
	var tree crossverify.Tree
	for range rapid.IntRange(0, 30).Draw(t, "leaves") {
		tree.Put(crossverify.Leaf{Name: digest(t, "leaf")})
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "places") {
		p := crossverify.Prefix{Len: uint16(rapid.IntRange(8, 256).Draw(t, "bits")), Bits: wire.Digest{byte(i)}}
		w.Places = append(w.Places, p)
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			n.Places = append(n.Places, Subtree{})
		case 1:
			n.Places = append(n.Places, Subtree{Entry: &BoardEntry{digest(t, "name"), rapid.Uint64().Draw(t, "version"), bytesN(t, 0, 40, "value")}})
		default:
			nodes := tree.Nodes(crossverify.Prefix{})
			if len(nodes) == 1 {
				nodes[0] = crossverify.Node{}
			}
			n.Places = append(n.Places, Subtree{Nodes: nodes})
		}
	}
	return w, n
}

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawMailboxes(t, 1)
		exceptions := drawExceptions(t, len(list))
		size, err := broadcast.BlockSize(exceptions, len(list))
		if err != nil {
			t.Fatal(err)
		}
		slots := fill(rapid.Byte().Draw(t, "slots"), size)
		var page BoardPage
		for i := range rapid.IntRange(0, 5).Draw(t, "entries") {
			name := digest(t, "name")
			name[0] = byte(i)
			page.Entries = append(page.Entries, BoardEntry{name, rapid.Uint64().Draw(t, "version"), bytesN(t, 0, 40, "value")})
		}
		page.More = rapid.Bool().Draw(t, "more")
		page.Statement = someStatement()
		walk, shown := drawWalk(t)
		messages := []Message{
			Hello{rapid.Uint16().Draw(t, "min"), rapid.Uint16().Draw(t, "max"), rapid.Uint64().Draw(t, "features"), wire.ChannelID(digest(t, "channel"))},
			Create{Token: bytesN(t, 0, MaxToken, "token"), Posting: fill32(1)},
			Grant{Uses: rapid.Uint32().Draw(t, "uses"), PerHour: rapid.Uint32().Draw(t, "per hour"), Expires: rapid.Uint64().Draw(t, "expires"), Revoke: rapid.Bool().Draw(t, "revoke")},
			Rotate{PostID: fill16(1), Rotation: rapid.Uint64Min(1).Draw(t, "rotation"), Posting: fill32(1), Admins: []Admin{{keys.AdminPublic(digest(t, "admin")), RankOwner}}, Ended: list},
			PostDigest{Hint: [8]byte(bytesN(t, 8, 8, "hint")), Sealed: [48]byte(bytesN(t, 48, 48, "sealed"))},
			DeliverDigest{N: rapid.Uint64().Draw(t, "n"), Root: digest(t, "root"), Nonce: [24]byte(bytesN(t, 24, 24, "nonce"))},
			Post{Fanout: digest(t, "fanout"), Mailboxes: list, Exceptions: exceptions, Envelope: bytesN(t, 0, 60, "envelope"), Slots: slots},
			SlotBlockIs{rapid.Uint64().Draw(t, "n"), list, exceptions, slots},
			BoardPut{Version: rapid.Uint64().Draw(t, "version"), Value: bytesN(t, 0, 60, "value")},
			Deliver{N: rapid.Uint64().Draw(t, "n"), Envelope: bytesN(t, 0, 60, "envelope"), Offset: rapid.Uint32().Draw(t, "offset"), Slot: bytesN(t, 0, 136, "slot")},
			page,
			walk, shown,
			Refused{
				Of: rapid.Byte().Draw(t, "of"), Code: Code(rapid.Uint16().Draw(t, "code")),
				Limit: rapid.StringN(0, -1, MaxName).Draw(t, "limit"), Text: rapid.StringN(0, -1, MaxText).Draw(t, "text"),
				Retry: time.Duration(rapid.Uint32().Draw(t, "retry")) * time.Millisecond,
			},
		}
		for _, m := range messages {
			got, err := Parse(Encode(m))
			if err != nil {
				t.Fatalf("%s: %v", Name(m.Type()), err)
			}
			if !reflect.DeepEqual(got, m) {
				t.Fatalf("%s\n got %+v\nwant %+v", Name(m.Type()), got, m)
			}
		}
	})
}

// What parses has one encoding: its own.
func FuzzParse(f *testing.F) {
	for _, s := range samples() {
		frame := Encode(s.m)
		f.Add(frame.Type, frame.Body)
	}
	f.Add(uint8(0x7f), []byte{})
	f.Add(uint8(0xff), []byte{})
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m, err := Parse(broadcast.Frame{Type: kind, Body: b})
		if err != nil {
			if m != nil {
				t.Fatal("a message beside an error")
			}
			return
		}
		if again := Encode(m); again.Type != kind || !bytes.Equal(again.Body, b) {
			t.Fatalf("%s has another encoding\n got %x\nfrom %x", Name(kind), again.Body, b)
		}
		if len(b) > MaxBody(kind) {
			t.Fatalf("%s of %d bytes is over its cap", Name(kind), len(b))
		}
	})
}

func BenchmarkParsePost(b *testing.B) {
	list := make([]wire.MailboxID, 1000)
	for i := range list {
		list[i] = wire.MailboxID{byte(i >> 8), byte(i)}
	}
	f := Encode(Post{Mailboxes: list, Envelope: make([]byte, 1146), Slots: make([]byte, 88*len(list))})
	b.SetBytes(int64(len(f.Body)))
	for b.Loop() {
		if _, err := Parse(f); err != nil {
			b.Fatal(err)
		}
	}
}
