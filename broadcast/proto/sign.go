package proto

import (
	"parallax/crossverify"
	"parallax/internal/keys"
	"parallax/internal/wire"
)

// Tags of the signatures in frames (docs/protocol.md section 10) and of the
// mailbox id (section 3).
const (
	tagCreate   = "parallax/1/create"
	tagGrant    = "parallax/1/grant"
	tagRotate   = "parallax/1/rotate"
	tagRegister = "parallax/1/register"
	tagOpen     = "parallax/1/open"
	tagPost     = "parallax/1/post"
	tagBoardPut = "parallax/1/board/put"
	tagOperator = "parallax/1/operator"
	tagMailbox  = "parallax/1/mailbox"
)

// MailboxOf is the id of the mailbox that key reads on a channel.
func MailboxOf(relay keys.RelayPublic, channel wire.ChannelID, key keys.MailboxPublic) (id wire.MailboxID) {
	d := wire.Hash(tagMailbox, relay[:], channel[:], key[:])
	copy(id[:], d[:])
	return id
}

// Sign fills Admin and Signature.
func (m *Create) Sign(admin keys.AdminPrivate, relay keys.RelayPublic, channel wire.ChannelID) {
	m.Admin = admin.Public()
	m.Signature = Signature(admin.Sign(tagCreate, m.parts(&relay, &channel)...))
}

// Verify checks Signature under Admin. Whether a channel may be created, the
// token tells.
func (m Create) Verify(v keys.Verify, relay keys.RelayPublic, channel wire.ChannelID) bool {
	return m.Admin.Verify(v, m.Signature[:], tagCreate, m.parts(&relay, &channel)...)
}

func (m *Create) parts(relay *keys.RelayPublic, channel *wire.ChannelID) [][]byte {
	return [][]byte{relay[:], channel[:], m.Posting[:]}
}

// Digest is d of the log entry that a Create makes.
func (m Create) Digest() wire.Digest { return crossverify.GrantDigest(m.Append(nil)) }

// Sign fills Signer and Signature.
func (m *Grant) Sign(admin keys.AdminPrivate, relay keys.RelayPublic, channel wire.ChannelID) {
	m.Signer = admin.Public()
	m.Signature = Signature(admin.Sign(tagGrant, m.parts(&relay, &channel)...))
}

// Verify checks Signature under Signer. Whether Signer is an admin, the channel
// tells.
func (m Grant) Verify(v keys.Verify, relay keys.RelayPublic, channel wire.ChannelID) bool {
	return m.Signer.Verify(v, m.Signature[:], tagGrant, m.parts(&relay, &channel)...)
}

func (m *Grant) parts(relay *keys.RelayPublic, channel *wire.ChannelID) [][]byte {
	revoke := uint64(0)
	if m.Revoke {
		revoke = 1
	}
	return [][]byte{relay[:], channel[:], m.Posting[:],
		wire.U64(uint64(m.Uses)), wire.U64(uint64(m.PerHour)), wire.U64(m.Expires), wire.U64(revoke)}
}

// Digest is d of the log entry that a Grant makes.
func (m Grant) Digest() wire.Digest { return crossverify.GrantDigest(m.Append(nil)) }

// Sign fills Signer and Signature.
func (m *Rotate) Sign(admin keys.AdminPrivate, relay keys.RelayPublic, channel wire.ChannelID) {
	m.Signer = admin.Public()
	m.Signature = Signature(admin.Sign(tagRotate, m.parts(&relay, &channel)...))
}

// Verify checks Signature under Signer. Whether Signer is an admin, the channel
// tells.
func (m Rotate) Verify(v keys.Verify, relay keys.RelayPublic, channel wire.ChannelID) bool {
	return m.Signer.Verify(v, m.Signature[:], tagRotate, m.parts(&relay, &channel)...)
}

func (m *Rotate) parts(relay *keys.RelayPublic, channel *wire.ChannelID) [][]byte {
	return [][]byte{relay[:], channel[:], wire.U64(m.Rotation), m.Posting[:], AppendAdmins(nil, m.Admins), appendMailboxes(nil, m.Ended)}
}

// Digest is d of the log entry that a Rotate makes.
func (m Rotate) Digest() wire.Digest { return crossverify.GrantDigest(m.Append(nil)) }

// Sign fills Capability and Signature.
func (m *Register) Sign(capability keys.PostingPrivate, relay keys.RelayPublic, channel wire.ChannelID) {
	m.Capability = capability.Public()
	m.Signature = Signature(capability.Sign(tagRegister, relay[:], channel[:], m.Mailbox[:]))
}

// Verify checks Signature under Capability. Whether Capability may register,
// the channel tells.
func (m Register) Verify(v keys.Verify, relay keys.RelayPublic, channel wire.ChannelID) bool {
	return m.Capability.Verify(v, m.Signature[:], tagRegister, relay[:], channel[:], m.Mailbox[:])
}

// Sign fills Mailbox and Signature; nonce is that of the link's Welcome.
func (m *Open) Sign(mailbox keys.MailboxPrivate, relay keys.RelayPublic, channel wire.ChannelID, nonce Nonce) {
	m.Mailbox = MailboxOf(relay, channel, mailbox.Public())
	m.Signature = Signature(mailbox.Sign(tagOpen, m.parts(&relay, &channel, &nonce)...))
}

// Verify checks Signature under key, and that Mailbox is key's.
func (m Open) Verify(v keys.Verify, key keys.MailboxPublic, relay keys.RelayPublic, channel wire.ChannelID, nonce Nonce) bool {
	return m.Mailbox == MailboxOf(relay, channel, key) &&
		key.Verify(v, m.Signature[:], tagOpen, m.parts(&relay, &channel, &nonce)...)
}

func (m *Open) parts(relay *keys.RelayPublic, channel *wire.ChannelID, nonce *Nonce) [][]byte {
	var known []byte
	if m.Known != nil {
		known = m.Known.Append(nil)
	}
	return [][]byte{relay[:], channel[:], nonce[:], m.Mailbox[:], m.Lineage[:],
		wire.U64(m.After), wire.U64(uint64(m.Window)), known}
}

// Digest is d of the log entry that a Post makes. It hashes the whole bundle.
func (m Post) Digest() wire.Digest {
	return crossverify.BundleDigest(
		crossverify.OuterDigest(m.Hint, m.Nonce, m.Envelope),
		crossverify.SlotsDigest(m.Fanout, m.Exceptions.Append(nil), m.Slots))
}

// Sign fills Signature; d is Digest, which the caller keeps to compare with
// the receipt's.
func (m *Post) Sign(posting keys.PostingPrivate, relay keys.RelayPublic, channel wire.ChannelID, d wire.Digest) {
	m.Signature = Signature(posting.Sign(tagPost, relay[:], channel[:], m.PostID[:], d[:]))
}

// Verify checks Signature under the channel's posting key; d is Digest.
func (m Post) Verify(v keys.Verify, posting keys.PostingPublic, relay keys.RelayPublic, channel wire.ChannelID, d wire.Digest) bool {
	return posting.Verify(v, m.Signature[:], tagPost, relay[:], channel[:], m.PostID[:], d[:])
}

// ValueDigest is what tree and owner signature hold of the value.
func (m BoardPut) ValueDigest() wire.Digest { return crossverify.ValueDigest(m.Value) }

// Digest is d of the log entry that a BoardPut or an Admit makes.
func (m BoardPut) Digest() wire.Digest {
	return crossverify.BoardDigest(m.Name, m.Version, m.ValueDigest())
}

// SignOwner fills Owner and OwnerSignature.
func (m *BoardPut) SignOwner(owner keys.OwnerPrivate, relay keys.RelayPublic, channel wire.ChannelID) {
	value := m.ValueDigest()
	m.Owner = owner.Public()
	m.OwnerSignature = Signature(owner.Sign(tagBoardPut, relay[:], channel[:], m.Name[:], wire.U64(m.Version), value[:]))
}

// VerifyOwner checks OwnerSignature under Owner. Whether Owner owns the entry,
// the version before tells.
func (m BoardPut) VerifyOwner(v keys.Verify, relay keys.RelayPublic, channel wire.ChannelID) bool {
	value := m.ValueDigest()
	return m.Owner.Verify(v, m.OwnerSignature[:], tagBoardPut, relay[:], channel[:], m.Name[:], wire.U64(m.Version), value[:])
}

// Sign fills Capability and Signature; the owner signs by SignOwner.
func (m *BoardPut) Sign(capability keys.PostingPrivate, relay keys.RelayPublic, channel wire.ChannelID) {
	d := m.Digest()
	m.Capability = capability.Public()
	m.Signature = Signature(capability.Sign(tagPost, relay[:], channel[:], m.PostID[:], d[:]))
}

// Verify checks Signature under Capability. Whether Capability may write, the
// channel tells.
func (m BoardPut) Verify(v keys.Verify, relay keys.RelayPublic, channel wire.ChannelID) bool {
	d := m.Digest()
	return m.Capability.Verify(v, m.Signature[:], tagPost, relay[:], channel[:], m.PostID[:], d[:])
}

// Sign fills Operator and Signature.
func (m *InfoIs) Sign(operator keys.OperatorPrivate, relay keys.RelayPublic) {
	m.Operator = operator.Public()
	m.Signature = Signature(operator.Sign(tagOperator, relay[:]))
}

// Verify checks that Operator vouches for the relay. The name is the relay's
// word alone.
func (m InfoIs) Verify(v keys.Verify, relay keys.RelayPublic) bool {
	return m.Operator.Verify(v, m.Signature[:], tagOperator, relay[:])
}

// OpenedFrame is the answer to Open that a relay sends: now is the statement
// of the newest number, o what it signed for this link.
func OpenedFrame(now crossverify.Statement, o crossverify.Opened, read uint64) Opened {
	m := Opened{Statement: now, Read: read, Signature: o.Signature}
	if o.Shown != (crossverify.Position{}) {
		m.Shown = &o.Shown
	}
	return m
}

// Signed is what the relay signed, for Verify and for evidence. nonce is that
// of the link's Welcome.
func (m Opened) Signed(nonce Nonce) crossverify.Opened {
	s := &m.Statement
	o := crossverify.Opened{Relay: s.Relay, Channel: s.Channel, Nonce: nonce,
		Lineage: s.Lineage, N: s.N, H: s.H, Signature: m.Signature}
	if m.Shown != nil {
		o.Shown = *m.Shown
	}
	return o
}

// TrimmedFrame is the frame of what a relay signed.
func TrimmedFrame(t crossverify.Trimmed) Trimmed {
	return Trimmed{Lineage: t.Lineage, First: t.First, H: t.H, Signature: t.Signature}
}

// Signed is what the relay signed, for Verify.
func (m Trimmed) Signed(relay keys.RelayPublic, channel wire.ChannelID) crossverify.Trimmed {
	return crossverify.Trimmed{Relay: relay, Channel: channel, Lineage: m.Lineage, First: m.First, H: m.H, Signature: m.Signature}
}

// Digest is d of the number delivered.
func (m Deliver) Digest() wire.Digest {
	return crossverify.BundleDigest(crossverify.OuterDigest(m.Hint, m.Nonce, m.Envelope), m.Slots)
}

// Digest is d of a log entry that wrote e.
func (e BoardEntry) Digest() wire.Digest {
	return crossverify.BoardDigest(e.Name, e.Version, crossverify.ValueDigest(e.Value))
}
