package member

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"parallax/broadcast"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Rooms (docs/protocol.md section 8.4): what newcomers and admins of a group in
// mode approve write to each other lies on the boards too, under a key that each
// invite has of its own. A link opens the room of its invite and nothing else.

// pathRoom is a room as one path's board masks it.
type pathRoom struct {
	invite [16]byte
	board  broadcast.BoardKeys
}

// roomKeys are the rooms of a path: those of the roster's invites, or, for who
// asks, the one of its link.
func (m *Machine) roomKeys(p *path) (list []pathRoom) {
	k := m.keyring
	add := func(invite [16]byte) {
		if slices.ContainsFunc(list, func(r pathRoom) bool { return r.invite == invite }) {
			return
		}
		key := k.door
		if first := k.first(); first != nil {
			key = RoomKey(&first.Key, m.gid, invite)
		}
		list = append(list, pathRoom{invite, broadcast.NewBoardKeys(key.Expose(), p.ref.Key)})
	}
	if a := m.meta.Asking; a != nil {
		add([16]byte(a.Invite))
	}
	if m.state != nil && k.first() != nil {
		for i := range m.state.Invites {
			if x := &m.state.Invites[i]; x.Record.Mode == ModeApprove {
				add(x.ID)
			}
		}
	}
	return list
}

// roomOf is that of one invite on a path; nil: it is not known.
func (m *Machine) roomOf(p *path, invite [16]byte) *broadcast.BoardKeys {
	rooms := m.keysOf(p).rooms
	if i := slices.IndexFunc(rooms, func(r pathRoom) bool { return r.invite == invite }); i >= 0 {
		return &rooms[i].board
	}
	return nil
}

// openRoom puts what a newcomer reads first into the room of an invite of mode
// approve: the genesis. It adds the posts to posts.
func (m *Machine) openRoom(rec *InviteRecord, posts map[wire.PostID]*path) {
	if rec.Mode != ModeApprove {
		return
	}
	id := InviteID(rec.Key)
	for _, p := range m.paths {
		if p.takesPosts() {
			m.putRoom(p, id, fmt.Sprintf("room/%x", id), 1, m.meta.Genesis, posts)
		}
	}
}

// putRoom queues an own entry of a room at one relay.
func (m *Machine) putRoom(p *path, invite [16]byte, name string, version uint64, value []byte, posts map[wire.PostID]*path) {
	room := m.roomOf(p, invite)
	if room == nil {
		return
	}
	put := m.sealedPut(p, room, name, version, value, m.keyring.owner)
	put.Sign(p.postingAt(&m.keyring.epoch().Key), p.ref.Key, p.channel)
	m.enqueue(p, &postItem{kind: postBoard, id: put.PostID, d: put.Digest(), frame: proto.Encode(put)})
	if posts != nil {
		posts[put.PostID] = p
	}
}

// readRooms takes what rooms have among entries that nothing else opened, and
// returns the rest.
func (m *Machine) readRooms(p *path, items []proto.BoardEntry) []proto.BoardEntry {
	type opened struct {
		invite  [16]byte
		name    string
		version uint64
		value   []byte
	}
	var entries []opened
	for _, r := range m.keysOf(p).rooms {
		left := items[:0:0]
		for _, e := range items {
			if name, value, err := r.board.Open(e.Name, e.Version, e.Value); err == nil {
				entries = append(entries, opened{r.invite, name, e.Version, value})
			} else {
				left = append(left, e)
			}
		}
		items = left
	}
	rank := func(o opened) int {
		kind, _, _ := strings.Cut(o.name, "/")
		return slices.Index([]string{"room", "request", "decision"}, kind)
	}
	slices.SortStableFunc(entries, func(a, b opened) int { return cmp.Or(rank(a)-rank(b), strings.Compare(a.name, b.name)) })
	for _, e := range entries {
		m.roomEntry(p, e.invite, e.name, e.value)
	}
	return items
}

// roomEntry takes one entry of a room. Who asks reads the genesis and what is
// decided on it; members read what is asked and decided.
func (m *Machine) roomEntry(p *path, invite [16]byte, name string, value []byte) {
	kind, rest, _ := strings.Cut(name, "/")
	asking := m.meta.Phase == phaseJoining && m.meta.Asking != nil && [16]byte(m.meta.Asking.Invite) == invite
	if kind == "room" {
		if asking {
			m.sawGenesis(p, value)
			m.makeRequest()
		}
		return
	}
	id, _, _ := strings.Cut(rest, "/")
	var seat wire.Seat
	if n, err := hex.Decode(seat[:], []byte(id[:min(len(id), 2*len(seat))])); err != nil || n != len(seat) {
		return
	}
	switch {
	case kind == "decision" && asking && seat == m.self:
		m.sawDecision(p, value)
	case m.state == nil || len(m.keyring.epochs) == 0:
	case kind == "request":
		m.sawRequest(p, invite, seat, value)
	case kind == "decision":
		m.sawOthersDecision(p, invite, seat, value)
	}
}

// requestName and decisionName are entries of a room. Of the admin's seat the
// beginning is named: a name has at most 128 bytes.
func requestName(seat wire.Seat) string { return "request/" + seat.String() }

func decisionName(seat, admin wire.Seat) string {
	return fmt.Sprintf("decision/%s/%x", seat, admin[:8])
}

// requestKeys are those that a request by an invite may be sealed to: the record
// does not say which epoch was in use when it was made.
func (m *Machine) requestKeys(invite [16]byte) (list []keys.RequestPrivate) {
	for _, e := range slices.Backward(m.keyring.epochs) {
		list = append(list, RequestKey(&e.Key, m.gid, invite))
	}
	return list
}
