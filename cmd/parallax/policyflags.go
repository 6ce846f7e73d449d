package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"parallax/broadcast/member"
	"parallax/internal/cli"
)

// Flags of the group's policy that take a word beside a number, for `group create`
// and `group set` alike.

// quorumFlag is how many operators must agree; 0: a majority.
type quorumFlag uint8

// Set implements pflag.Value: "majority", or a number of at most 16 operators.
func (q *quorumFlag) Set(s string) error {
	if strings.EqualFold(s, "majority") {
		*q = 0
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n > member.MaxRelays {
		return fmt.Errorf("%q is neither majority nor a number of operators, at most %d", s, member.MaxRelays)
	}
	*q = quorumFlag(n)
	return nil
}

func (q *quorumFlag) String() string {
	if *q == 0 {
		return ""
	}
	return strconv.Itoa(int(*q))
}

// Type implements pflag.Value.
func (*quorumFlag) Type() string { return "number" }

// carriersFlag is how many relays carry a text in full; 0: as by default;
// member.MaxRelays: all, however many there will be.
type carriersFlag int

// Set implements pflag.Value: "all", "default", or a number, which check looks at.
func (n *carriersFlag) Set(s string) error {
	switch {
	case strings.EqualFold(s, "all"):
		*n = member.MaxRelays
		return nil
	case strings.EqualFold(s, "default"):
		*n = 0
		return nil
	}
	v, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%q is neither a number of relays nor all", s)
	}
	if v < 1 {
		return errors.New("at least one relay carries a text in full")
	}
	*n = carriersFlag(v)
	return nil
}

func (n *carriersFlag) String() string {
	switch *n {
	case 0:
		return ""
	case member.MaxRelays:
		return "all"
	}
	return strconv.Itoa(int(*n))
}

// Type implements pflag.Value.
func (*carriersFlag) Type() string { return "number" }

// check refuses more carriers than there are relays.
func (n *carriersFlag) check(relays int) error {
	if *n == member.MaxRelays || int(*n) <= relays {
		return nil
	}
	return cli.Errorf(cli.Usage, "--carriers is %s: of %s, 1 to %d can carry a text in full; all takes them all", n, cli.Plural(relays, "relay"), relays)
}

// wholeSeconds refuses a length of time that a policy cannot hold.
func wholeSeconds(flag string, d cli.Duration) error {
	if t := time.Duration(d); t < time.Second || t%time.Second != 0 {
		return cli.Errorf(cli.Usage, "--%s is %s, it counts in whole seconds", flag, d)
	}
	return nil
}

// checkInviteRole refuses a word that an invitation cannot make of somebody.
func checkInviteRole(word string) error {
	switch member.Role(word) {
	case member.AsMember, member.AsReader:
		return nil
	case member.AsAdmin, member.AsOwner:
		return cli.Errorf(cli.Usage, "--role: an invitation makes members or readers; who is in is made %s by `parallax member role`", word)
	}
	hint := ""
	if near := cli.Nearest(strings.ToLower(word), []string{"member", "reader"}); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return cli.Errorf(cli.Usage, "--role: who comes by an invitation is member or reader, not %q%s", word, hint)
}
