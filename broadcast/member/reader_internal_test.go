package member

import "testing"

// TestReaderUnadopted: what a reader sends is not shown while nothing but its
// invitation says that it is one, whatever its own program allows.
func TestReaderUnadopted(t *testing.T) {
	for _, role := range []uint8{RoleMember, RoleReader} {
		m := laidDown(t, 1)
		x := newPeer(t, m, "Bob")
		if m.standing(x.st.seat).in {
			t.Fatal("the peer is a member by signature: the test shows nothing")
		}
		for _, inv := range m.invites {
			inv.Role = role
		}
		x.everywhere(x.text(t, "may I?"))
		m.settle()
		shown := 0
		for _, msg := range m.recent {
			if msg.kind == KindText && msg.key.seat == x.st.seat {
				shown++
			}
		}
		told := m.told(EventSilent, "Bob sent a text as a reader")
		if reads := role == RoleReader; reads != (shown == 0) || reads != (told == 1) {
			t.Errorf("role %s: %d texts are shown, told %d times", roleName(role), shown, told)
		}
	}
}
