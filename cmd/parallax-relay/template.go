package main

import (
	"fmt"
	"strconv"
	"strings"
)

// writeConfig is a new relay.toml. Lines that begin with "#key" show a key at
// its default; a test keeps them true.
func writeConfig(operator string, listen, public []string, token string) string {
	quote := func(list []string) string {
		out := make([]string, len(list))
		for i, s := range list {
			out[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	found := "#public = []"
	if len(public) > 0 {
		found = "public = " + quote(public)
	}
	return fmt.Sprintf(configText, quote(listen), found, strconv.Quote(operator), quote([]string{token}))
}

const configText = `# Configuration of a Parallax relay. Every key that stands here behind a # shows
# its default. A key that does not exist is an error, so that no limit is lost to
# a spelling mistake. "parallax-relay check" looks it over; changes count after a
# restart.

# Where the relay listens: /ip4|ip6/HOST/udp/PORT/quic-v1 or /ip4|ip6/HOST/tcp/PORT.
listen = %s

# Where others find it, when that is not where it listens: behind a router or a
# container, or by name (/dns/relay.example.org/udp/4801/quic-v1).
%s

[operator]
# Who runs the relay; members see this name beside the operator key. At most 64
# bytes. All relays of one operator should use one operator.key: members count
# operators, not relays.
name = %s
# Operators who belong together with this one: finished declarations, as
# "parallax-relay family" prints them. At most 4.
#families = []

[access]
# Who shows one of these may found a group here; joining needs no token. The
# first one is in the address that "parallax-relay address" prints. Taking one
# out ends new groups, not existing ones. No tokens: nobody may.
tokens = %s
# Anybody may found a group, token or not.
#open = false

[log]
# On stderr, "text" or "json". Addresses and peer ids never stand in it.
#format = "text"
# "debug", "info", "warn" or "error".
#level = "info"

# What one group may cost. Sizes: "64 KiB", "1 GiB"; times: "30s", "12h", "21d".
[limits]
# Messages kept; beyond it the oldest go.
#max_log_bytes = "1 GiB"
# Age at which a message goes, fetched or not.
#retention = "21d"
# One message with what belongs to it.
#max_post_bytes = "6 MiB"
# The board: the announcements that a joiner reads.
#max_board_entries = 8192
#max_board_bytes = "16 MiB"
# Members' read positions; idle ones make room after the retention time.
#max_mailboxes = 4096
# Recipient lists that kept messages use, and those held in memory.
#max_fanouts = 1024
#cached_fanouts = 64
# Invitations; dead ones make room.
#max_grants = 64
# Each link: what changes the group's log, and what only reads.
#posts_per_minute = 600
#requests_per_minute = 1200
# Requests that have no answer yet, and their bytes.
#max_pending = 4096
#max_pending_bytes = "64 MiB"
# Messages sent ahead of a member's acknowledgement.
#max_window = 1024
# Newest messages held in memory.
#tail_entries = 256
#tail_bytes = "4 MiB"
# Post ids held in memory, to answer a repeated post at once.
#recent_posts = 4096
# Members who catch up at one time, and the size of one read for them.
#max_reads = 16
#read_bytes = "1 MiB"
# Handed over to links in one turn.
#push_bytes = "8 MiB"
# One page of the board.
#page_bytes = "256 KiB"
# Work of one step of deleting what is old.
#trim_bytes = "64 KiB"
# How often read positions are written.
#hint_every = "1m"

# What strangers may cost the whole relay. Loopback addresses are not counted.
[connections]
# At a time: of all, of one IPv4 address or IPv6 /64, of one IPv4 /24 or IPv6 /48.
#connections = 8192
#per_address = 128
#per_network = 512
# New ones of one address: a second, and at once.
#rate = 4.0
#burst = 128
# Links on one connection.
#streams = 4
# Waiting to be sent: on one link, on all. Beyond it links that lag are closed.
#link_bytes = "16 MiB"
#send_bytes = "512 MiB"
# For windows and handshakes of the transports.
#memory = "1 GiB"
`
