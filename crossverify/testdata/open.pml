/*
 * Open facts of docs/protocol.md section 9.1, as a model for Spin: what R relays
 * can do to one member that accepts at Q matching operators while T of them
 * collude. All R to 5, T to R and Q to R are in one run.
 *
 * There is one true admission, which every honest relay shows in the end, and
 * one false one, which none does. A liar shows either, both, says that it lacks
 * them, first one and later the other, or nothing at all; and it may sign
 * against itself, which sets it aside. An honest relay may lack the admission at
 * first, and may be restored from a backup: it then starts a new life, lacks it
 * again, and gets it again. What was shown stays shown; that a relay lacked
 * something is forgotten once it shows something. The deadline passes at any
 * moment. Every order of all that is a run.
 *
 * The two admissions are subjects of their own (apart), or two values of one
 * subject (together), where two quorums stand against each other and nothing is
 * accepted.
 *
 * Proven (T3): the false admission is never accepted iff T < Q; once the honest
 * relays have answered and the deadline has passed, the true one is accepted,
 * whatever the liars did and do, iff T <= R-Q; together iff T < Q as well. And
 * (T5): no honest relay is ever set aside, and once all liars are, the rest go on.
 * The assertions say "never"; that each bound is reached is in the table, which
 * the verifier prints: one line when forged, stuck or stuck together is first
 * reached for one (R, T, Q).
 *
 * The switches below weaken one rule each; with any of them set to 1 an
 * assertion must fail.
 */
#define ACCEPT_EARLY      0  /* one operator fewer is enough */
#define ACCEPT_LATE       0  /* it takes one operator more */
#define MAJORITY_RULES    0  /* a majority sets aside the minority that contradicts it */
#define DISSENT_CONVICTS  0  /* who lacks what another shows is set aside */
#define TIMEOUT_LOWERS_Q  0  /* after the deadline only those who answered are needed */
#define LATE_IS_NEVER     0  /* what is shown after the deadline does not count */
#define ACROSS_LIVES      0  /* the checker convicts across a restore */
#define ASIDE_COUNTS      0  /* who is set aside is still waited for */
#define MOST 5

#define TRUE_ONE   1   /* the member has seen it show the true admission */
#define FALSE_ONE  2   /* ... the false one */
#define LACKS      4   /* it answered that it lacks one */
#define IGNORED    8   /* it showed the true one too late for a weakened member */
#define RESTORED  16   /* it has shown the true one and lost it since */
#define SAID      (TRUE_ONE | FALSE_ONE | LACKS)

byte R, T, Q;            /* relays 0 to T-1 collude */
byte relay[MOST];
bit aside[MOST];
bit late;                /* the deadline has passed */

c_decl { static unsigned char printed[3][6][6][6]; };
#define TELL(what, word) c_code { \
	if (!printed[what][now.R][now.T][now.Q]) { \
		printed[what][now.R][now.T][now.Q] = 1; \
		printf("table %s %d %d %d\n", word, now.R, now.T, now.Q); \
	} }

hidden byte i, trues, falses, rest, answered, honest, needed;
hidden byte forged, accepted, complete;

inline convict(who) {
	assert(who < T);     /* nobody honest, ever */
	aside[who] = 1
}

inline tally() {
	trues = 0; falses = 0; rest = 0; answered = 0; honest = 0; i = 0;
	do
	:: i < R ->
		if
		:: aside[i]
		:: else ->
			rest++;
			if :: relay[i] & TRUE_ONE -> trues++ :: else fi;
			if :: i >= T && (relay[i] & (TRUE_ONE | IGNORED)) -> honest++ :: else fi;
			if :: relay[i] & FALSE_ONE -> falses++ :: else fi;
			if :: relay[i] & SAID -> answered++ :: else fi
		fi;
		i++
	:: else -> break
	od
}

/* What the member makes of all that was said. */
inline judge() {
	d_step {
		tally();
		if
		:: MAJORITY_RULES && 2 * falses > answered ->
			i = 0;
			do
			:: i < R -> if :: (relay[i] & SAID) && !(relay[i] & FALSE_ONE) && !aside[i] -> convict(i) :: else fi; i++
			:: else -> break
			od;
			tally()
		:: else
		fi;
		needed = Q;
		if :: ACCEPT_EARLY && Q > 1 -> needed = Q - 1 :: else fi;
		if :: ACCEPT_LATE -> needed = Q + 1 :: else fi;
		if :: TIMEOUT_LOWERS_Q && late && answered < needed -> needed = answered :: else fi;
		if :: !ASIDE_COUNTS && rest < needed -> needed = rest :: else fi;
		if :: needed == 0 -> needed = 1 :: else fi;
		forged = (falses >= needed);
		accepted = (trues >= needed);
		complete = (late && honest == R - T);
		assert(!forged || T >= Q);
		assert(!complete || accepted || T > R - Q);
		assert(!complete || accepted || rest > R - T || rest == 0);  /* only honest ones are left */
		assert(!complete || (accepted && !forged) || T > R - Q || T >= Q);
		if :: forged -> TELL(0, "forged") :: else fi;
		if :: complete && !accepted -> TELL(1, "stuck") :: else fi;
		if :: complete && (!accepted || forged) -> TELL(2, "together") :: else fi
	}
}

/* Relay who shows (or lacks) something. Dissent is what the weakened rule sees:
   this relay, or one before it, lacks the false admission that another shows. */
inline say(who, what) {
	if
	:: LATE_IS_NEVER && late -> if :: what == TRUE_ONE -> relay[who] = relay[who] | IGNORED :: else fi
	:: else -> relay[who] = (relay[who] & ~LACKS) | what
	fi;
	if
	:: DISSENT_CONVICTS ->
		tally();
		i = 0;
		do
		:: i < R -> if :: falses > 0 && (relay[i] & SAID) && !(relay[i] & FALSE_ONE) && !aside[i] -> convict(i) :: else fi; i++
		:: else -> break
		od
	:: else
	fi
}

init {
	byte who;
	select(R : 1 .. MOST);
	select(T : 0 .. R);
	select(Q : 1 .. R);
	judge();

	do
	:: atomic { !late -> late = 1; judge() }
	:: atomic {
		who = 0;
		do :: who < R - 1 -> who++ :: break od;
		!aside[who];
		if
		/* A liar says anything, or shows that it signed both ways. */
		:: who < T && !(relay[who] & TRUE_ONE) -> say(who, TRUE_ONE)
		:: who < T && !(relay[who] & FALSE_ONE) -> say(who, FALSE_ONE)
		:: who < T && !(relay[who] & SAID) -> say(who, LACKS)
		:: who < T -> convict(who); relay[who] = 0
		/* An honest one lacks it before it has it, and again after a restore,
		   in another life; within one it never lacks what it signed to have. */
		:: who >= T && !(relay[who] & SAID) -> say(who, LACKS)
		:: who >= T && !(relay[who] & TRUE_ONE) -> say(who, TRUE_ONE)
		:: who >= T && (relay[who] & TRUE_ONE) && !(relay[who] & RESTORED) ->
			relay[who] = relay[who] | RESTORED;
			if :: ACROSS_LIVES -> convict(who) :: else fi
		fi;
		judge();
		who = 0
	   }
	od
}
