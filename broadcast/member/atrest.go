package member

// kinds is what becomes of each kind of record where it lies: live ones hold
// ratchet state or prekeys and are sealed with the state key that is replaced
// daily; those of a backup go into one. A kind that was live stays live.
var kinds = []struct {
	kind         byte
	live, backup bool
}{
	{keyMeta, true, true}, // old epoch keys and invite secrets go with the state key
	{keyCounters, false, true},
	{keyPath, false, true}, // what came before is not for the sessions to come
	{keyBoard, false, true},
	{keySeat, false, true},
	{keySessions, true, false},
	{keyVector, true, false},
	{keySet, false, false},
	{keyBundle, false, false},
	{keyPost, false, false},
	{keyMessage, false, true}, // received and perhaps not shown yet
	{keyReceived, false, true},
	{keyEvent, false, true},
	{keyHeld, false, false},
	{keyUnread, false, false},
	{keyHello, false, false}, // of prekeys that a restore replaces
	{keyEvidence, false, true},
	{keyLog, false, true},
	{keyPrekeys, true, false},
	{keyKept, false, false}, // of a session that a restore replaces
	{keyConfirmed, false, true},
	{keyDelivery, false, true}, // as history
	{keyText, false, false},    // history has what they say
	{keyLack, false, true},
	{keyAnswer, false, false},  // of texts that a restore does not have
	{keyCarried, false, false}, // of bundles that a restore does not have
	{keyRequest, false, false}, // of the lost installation's commands
	{keyAcked, false, true},
	{keyAsked, false, true}, // versions of own decisions
	{keyRevoked, false, true},
	{keyReceipt, false, true},
	{keyHead, false, true},  // as the path's newest statement
	{keyNoted, false, true}, // as history
	{keyReached, false, true},
}

// LiveKinds are the kinds of records with live ratchet state, each the byte
// after the unit.
func LiveKinds() (live []byte) {
	for _, k := range kinds {
		if k.live {
			live = append(live, k.kind)
		}
	}
	return live
}
