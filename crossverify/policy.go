package crossverify

import (
	"slices"
	"time"

	"parallax/internal/keys"
	"parallax/internal/wire"
)

// DefaultDeadline is how long a path may lack a subject before it is Silent.
const DefaultDeadline = 30 * time.Second

// Path is one relay as seen by one member: an index into Policy.Operators.
type Path uint8

// Policy says whose word counts, and how often it is needed.
type Policy struct {
	// Operators names for each path the operator that runs its relay; paths
	// of one operator count once.
	Operators []keys.OperatorPublic
	// Families names for each path the family of its operator, as the function
	// Families has it: all operators of one family count once. It may be
	// shorter than Operators; the rest have no family.
	Families []Family
	// Outside tells of each path whether its relay is not of the list in use: such
	// a path is compared and never counts, not for what a majority or all are
	// either. It may be shorter than Operators; the rest are inside.
	Outside []bool
	// Quorum is how many operators must match; 0: a majority of the distinct
	// ones. More than there are means all of them.
	Quorum int
	// Rule, if set, says in place of Quorum which operators are enough. If all
	// that count together are not enough for it, as families count once, all
	// that it names are needed. Operators it does not name never count.
	Rule *Rule
	// Strict needs all operators, whatever Quorum and Rule say, and lets a
	// message be used only when Agreed.
	Strict bool
	// Deadline is how long after a subject was first known a path that shows
	// nothing counts as lagging; 0: DefaultDeadline.
	Deadline time.Duration
}

// Distinct is the number of distinct operators; those of one family are one.
func (p Policy) Distinct() (n int) {
	seen := make([]bool, len(p.Operators))
	for i, class := range p.classes() {
		if !p.outside(i) && !seen[class] {
			seen[class] = true
			n++
		}
	}
	return n
}

func (p Policy) outside(path int) bool { return path < len(p.Outside) && p.Outside[path] }

// Needed is q: how many distinct operators must match, as long as so many are
// not set aside (Ledger.SetAside). With a Rule it is the least number that can
// be enough.
func (p Policy) Needed() int {
	switch all := p.Distinct(); {
	case p.Strict:
		return all
	case p.Rule != nil:
		return newVoters(p).fewest()
	case p.Quorum <= 0:
		return all/2 + 1
	default:
		return min(p.Quorum, all)
	}
}

// Sufficient tells whether these operators, matching on every path they have,
// are enough while nobody is set aside.
func (p Policy) Sufficient(operators []keys.OperatorPublic) bool {
	voters := newVoters(p)
	said := voters.none()
	for i, o := range p.Operators {
		if slices.Contains(operators, o) {
			voters.add(&said, i)
		}
	}
	return voters.enough(said)
}

// Shares is k of a first contact over some of the paths (section 5.3): one more
// than the most of them that operators who are not enough can have, and at most
// all of them; all of them if Strict.
func (p Policy) Shares(over []Path) int {
	if p.Strict {
		return len(over)
	}
	return min(newVoters(p).mostShort(over)+1, len(over))
}

// Reachable tells whether all operators together, families speaking once, are
// enough for the Rule; without a Rule they are.
func (p Policy) Reachable() bool {
	v := newVoters(p)
	return v.rule == nil || v.leftCan
}

// Kind is one of the three kinds of fact.
type Kind uint8

const (
	// Signed: an announcement version, the genesis. One valid claim counts
	// from whichever path; two digests are the signer's doing.
	Signed Kind = iota + 1
	// Open: what any link holder could sign, such as an admission. It takes a
	// quorum of operators.
	Open
	// Message: an envelope, authenticated by its slot.
	Message
)

func (k Kind) String() string {
	switch k {
	case Signed:
		return "signed"
	case Open:
		return "open"
	case Message:
		return "message"
	}
	return "unknown"
}

// Status is what one path has to say about one subject. It convicts nobody.
type Status uint8

const (
	// Awaiting: not answered yet, lacks it within the deadline, or shows a
	// copy while no copy of the message has opened.
	Awaiting Status = iota
	// Matched: shows the digest that the report names.
	Matched
	// Dissented: shows another digest; or any, while two stand against each
	// other and the report names none.
	Dissented
	// Silent: still showed nothing when the deadline had passed.
	Silent
	// Failed: gave something that does not open or verify.
	Failed
)

func (s Status) String() string {
	switch s {
	case Awaiting:
		return "awaiting"
	case Matched:
		return "matched"
	case Dissented:
		return "dissented"
	case Silent:
		return "silent"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// Verdict is the result of comparing the paths: a result, never an error.
type Verdict uint8

const (
	// Unconfirmed: too few operators match so far, or there is only one.
	Unconfirmed Verdict = iota
	// Agreed: for Signed a valid claim without a contradiction, else a quorum
	// of operators matched.
	Agreed
	// Contested: two digests stand against each other, or an Open fact has no
	// quorum after every path answered.
	Contested
)

func (v Verdict) String() string {
	switch v {
	case Unconfirmed:
		return "unconfirmed"
	case Agreed:
		return "agreed"
	case Contested:
		return "contested"
	}
	return "unknown"
}

// Report is what the ledger knows about one subject.
type Report struct {
	Verdict Verdict
	// Digest is the one the verdict is about; zero while there is none or two
	// stand against each other.
	Digest wire.Digest
	// Status of each path, in the order of Policy.Operators.
	Status []Status
	// Operators is the number of distinct operators with a Matched path that
	// is not set aside.
	Operators int
	// Answered is the number of distinct operators with a path, not set
	// aside, that showed, lacked or spoiled the subject.
	Answered int
	// Settled: no path that counts is Awaiting.
	Settled bool
	// Usable: may be acted on. It is Agreed; for a Message without Strict a
	// copy that opened is enough. In a group of one operator there is nobody
	// to compare with: the verdict stays Unconfirmed, and Usable says whether
	// that operator's word would have been enough.
	Usable bool
	// Equivocated: the signer or sender made two digests for one subject. No
	// relay is to blame.
	Equivocated bool
}
