package simnet

import (
	"errors"
	"fmt"
	"slices"

	"parallax/broadcast"
	"parallax/broadcast/member"
	"parallax/broadcast/proto"
	"parallax/internal/keys"
	"parallax/internal/store"
	"parallax/internal/wire"
	"parallax/simnet/adversary"
)

// twice has a member sign two successors of its announcement.
func (x *Script) twice(w words) (string, error) {
	if len(w.args) < 2 {
		return "", fmt.Errorf("%w: twice NAME N,N [another]", ErrDirective)
	}
	n, err := x.node(w.args[0])
	if err != nil {
		return "", err
	}
	list, err := x.relays(w.args[1])
	if err != nil {
		return "", err
	}
	x.s.deeds["successors"] = true
	return "", x.s.Twice(n, list, w.has("another"))
}

// Twice makes a member put two announcements of its next version on the boards, both
// signed by its own key: one on these relays and the other on all others. The second
// carries another signing key, or the same. Its process is stopped first: an honest
// one that sees an announcement it did not make goes silent.
func (s *Scenario) Twice(n *Node, these []*Relay, another bool) error {
	if len(s.liars) == 0 {
		s.begun = s.Elapsed()
	}
	s.Foes[n.name] = true
	n.Stop()
	own, err := folderOf(n)
	inv, failed := member.ParseLink(s.Link)
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	last, err := member.ParseAnnouncement(own.Announced)
	if err != nil {
		return err
	}
	signing, epoch := keys.NewPrivate[keys.RoleMember]([32]byte(own.Signing)), keys.NewSecret[keys.RoleEpoch]([32]byte(own.Epochs[0].Key))
	var postings []adversary.Posting
	for i, r := range s.Relays {
		a, which := *last, "one"
		if !slices.Contains(these, r) {
			which = "other"
		}
		inc := s.Seed(n.name, "successor", which)
		a.Version, a.Previous, a.Incarnation = last.Version+1, last.Digest(), wire.Incarnation(inc[:8])
		if another && which == "other" {
			a.Signing = keys.NewPrivate[keys.RoleMember](s.Seed(n.name, "another key")).Public()
		}
		a.Sign(signing)
		at, entry := r.Key.Public(), "announcement/"+a.Seat.String()
		id := s.Seed(n.name, "successor", fmt.Sprint(i))
		put := proto.BoardPut{PostID: wire.PostID(id[:16]), Version: a.Version}
		put.Name, put.Value = broadcast.NewBoardKeys(epoch.Expose(), at).Seal(entry, a.Version, a.Append(nil))
		put.SignOwner(member.OwnerKey([32]byte(own.Owner), at, entry), at, inv.Channel(at))
		capability := member.PostingKey(&epoch, at)
		put.Capability = capability.Public()
		put.Sign(capability, at, inv.Channel(at))
		postings = append(postings, adversary.Posting{Relay: at, Channel: inv.Channel(at), Post: put})
	}
	s.forged++
	name := fmt.Sprintf("forger%d", s.forged)
	unit := s.Seed(name, "unit")
	s.World.AddMember(name, adversary.OpenPoster(postings), store.Unit(unit[:16]))
	return nil
}
