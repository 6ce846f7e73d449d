package member

import (
	"errors"
	"testing"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Two announcements that a seat signed to ask with are its own doing: neither is
// approved, however many relays show one; a second request with the same
// announcement is the same.
func TestRequestsDiffer(t *testing.T) {
	m := laidDown(t, 2)
	ask := func(name string, made int64) *Request {
		return &Request{Made: time.Unix(made, 0), Announcement: &Announcement{Seat: wire.Seat{1}, Name: name}}
	}
	r := &askedSeat{seat: wire.Seat{1}}
	for i := range m.paths {
		r.show(ask("Bob", 5), i)
	}
	if !m.requestAgreed(r) || m.mayApprove(r) != nil {
		t.Fatalf("all relays show it: %v", m.mayApprove(r))
	}
	r.show(ask("Bob", 6), 0)
	if len(r.forms) != 2 || r.differs() || !m.requestAgreed(r) {
		t.Errorf("asked twice: %d forms, %v", len(r.forms), m.mayApprove(r))
	}
	r.show(ask("Rob", 6), 0)
	if m.requestAgreed(r) || !errors.Is(m.mayApprove(r), ErrContested) {
		t.Errorf("two announcements: %v", m.mayApprove(r))
	}
	for i := range int64(9) {
		r.show(ask("Rob", 10+i), 0)
	}
	if len(r.forms) != maxForms {
		t.Errorf("%d forms are kept", len(r.forms))
	}
}

// What is kept of requests reads back.
func TestAskedRecord(t *testing.T) {
	m := laidDown(t, 1)
	invite := keys.NewPrivate[keys.RoleInvite]([32]byte{8})
	q := &Request{Group: m.gid, Made: unixTime(m.now), Announcement: m.keyring.ann}
	q.Sign(invite, m.keyring.signing)
	r := &askedSeat{seat: m.self, invite: q.Invite, since: 7, told: true, withdrawn: true, version: 3, epoch: 9}
	r.show(q, 0)
	r.show(q, 1)
	m.saveAsked(r)
	value := m.ops[m.opAt[string(m.key(keyAsked, m.self[:]))]].Value
	delete(m.requests, m.self)
	if err := m.loadAsked(m.self[:], value); err != nil {
		t.Fatal(err)
	}
	got := m.requests[m.self]
	if got.invite != r.invite || got.since != 7 || !got.told || got.refused || !got.withdrawn || got.version != 3 || got.epoch != 9 || len(got.forms) != 1 || got.forms[0].by != 3 || got.forms[0].request.Digest() != q.Digest() {
		t.Errorf("%+v", got)
	}
	for n := range value {
		if m.loadAsked(m.self[:], value[:n]) == nil {
			t.Fatalf("the first %d bytes are taken", n)
		}
	}
}
