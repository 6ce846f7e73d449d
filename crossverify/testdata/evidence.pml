/*
 * Evidence of docs/protocol.md section 9, as a model for Spin.
 *
 * One relay and one channel. An honest relay has one log, which every member
 * sees; it may be restored from a backup and then starts a new lineage. A
 * lying relay shows two members a log each (view 0 and view 1) and gives every
 * one a chain without a gap, as all else is noticed by that member alone. A
 * member keeps whichever statement it likes (kept; its n is 0 before), and it
 * meets every statement and every answer to Open that the relay signs later.
 * As kept is any statement, this covers every pair of statements of a run.
 *
 * An entry d is 1 (a bundle), 2 or 3 (board writes of version 1 and 2 of one
 * entry). root is the version on the board, 0: none. The head h holds all
 * entries and roots of the lineage, as a hash without collisions would; all
 * holds the same as the truth that the checker does not see. random of a
 * lineage is a counter for the honest relay: 8 random bytes do not repeat.
 *
 * Proven: nobody honest is ever convicted; who shows two members different
 * entries under a number that both have seen is convicted by any two
 * statements at or after it, of one number; who lets the board lose what it
 * receipted, or answers from before what it was shown, is convicted. The
 * switches below break relay or checker, one at a time; with any of them set
 * to 1 an assertion must fail.
 */
#define KEEP_LINEAGE    0  /* the relay goes on with its lineage after a restore */
#define IGNORE_SHOWN    0  /* the relay does not look at the statement it is shown */
#define BOARD_GOES_BACK 0  /* the relay lets an older version replace a newer one */
#define ACROSS_LINEAGES 0  /* the checker compares statements of two lineages */
#define ACROSS_NUMBERS  0  /* the checker compares statements of two numbers */
#define EARLIER_ROOTS   0  /* the checker looks for an entry before it was written */
#define ANY_ANSWER      0  /* the checker takes a newer lineage for going back */
#define NO_FORK         0  /* the checker does not know the fork */
#define NO_FORGOTTEN    0  /* the checker does not know what is forgotten */
#define NO_ANSWER       0  /* the checker does not know the answer */
#define NO_RANDOM       0  /* the checker does not look at a lineage's random bytes */
#define SHORT_CHAIN     0  /* the head covers the last entry alone */

#define NUMBERS  (lying -> 2 : 3)  /* longest lineage */
#define ORDINALS 3                 /* greatest ordinal; lives are one more */

typedef Statement { byte ordinal, random, n, d, root; short h; short all }

Statement view[2];     /* the newest statement of each log: all of its state */
Statement backup, kept, now;
bit lying;
byte drawn = 1;        /* random bytes drawn so far */
bit convicted;

#define SAME_LIFE(a, b) (a.ordinal == b.ordinal && a.random == b.random)
#define LINEAGE(a, b)   (ACROSS_LINEAGES || SAME_LIFE(a, b))
#define IS_WRITE(s)     (s.d > 1)
#define VERSION(s)      (s.d - 1)

#define FORK(a, b) (!NO_FORK && LINEAGE(a, b) && (ACROSS_NUMBERS || a.n == b.n) && \
	(a.d != b.d || a.h != b.h || a.root != b.root))
#define FORGOTTEN(a, b) (!NO_FORGOTTEN && LINEAGE(a, b) && IS_WRITE(a) && \
	(EARLIER_ROOTS || b.n >= a.n) && b.root < VERSION(a))
#define ANSWER(shown, is) (!NO_ANSWER && shown.n > 0 && \
	(is.ordinal < shown.ordinal || \
	 (SAME_LIFE(is, shown) && is.n < shown.n) || \
	 (!NO_RANDOM && is.ordinal == shown.ordinal && is.random != shown.random) || \
	 (ANY_ANSWER && is.ordinal > shown.ordinal)))

/* Entry and root at number m: 4 bits for each number. */
#define AT(s, m) ((s.all >> (4 * (s.n - (m)))) & 15)

/* The truth that evidence is held against: the two logs differ at number m. */
#define DIFFER(a, b, m) ((m) <= a.n && AT(a, m) != AT(b, m))

inline put(v, entry, after) {
	view[v].n++;
	view[v].d = entry;
	view[v].root = after;
	view[v].all = ((view[v].all << 4) | (entry * 4 + after));
	view[v].h = (SHORT_CHAIN -> entry * 4 + after : view[v].all)
}

/* now and kept meet. */
inline meet() {
	convicted = FORK(kept, now) || FORGOTTEN(kept, now) || FORGOTTEN(now, kept) || FORGOTTEN(now, now);
	if
	:: !lying -> assert(!convicted)
	:: lying && SAME_LIFE(kept, now) ->
		if
		:: kept.n == now.n && kept.n > 0 &&
		   (DIFFER(kept, now, 1) || DIFFER(kept, now, 2) || DIFFER(kept, now, 3)) -> assert(convicted)
		:: IS_WRITE(kept) && now.n >= kept.n && now.root < VERSION(kept) -> assert(convicted)
		:: else
		fi
	:: else
	fi;
	convicted = 0
}

#define copy(to, from) to.ordinal = from.ordinal; to.random = from.random; to.n = from.n; \
	to.d = from.d; to.root = from.root; to.h = from.h; to.all = from.all
#define live(s, o, r) s.ordinal = o; s.random = r; s.n = 0; s.d = 0; s.h = 0; s.all = 0

init {
	byte entry, after;
	bit v;
	select(v : 0 .. 1);
	lying = v;
	live(view[0], 1, 1);
	live(view[1], 1, 1);
	live(backup, 1, 1);
	live(kept, 1, 1);

	do
	/* An entry: every mailbox of the view gets the number and a statement. */
	:: atomic {
		if :: v = 0 :: lying -> v = 1 fi;
		view[v].n < NUMBERS -> select(entry : 1 .. 3);
		after = view[v].root;
		if
		:: lying -> entry < 3; select(after : 0 .. 1)
		:: !lying && entry > 1 -> BOARD_GOES_BACK || entry - 1 > after; after = entry - 1
		:: !lying && entry == 1
		fi;
		put(v, entry, after);
		copy(now, view[v]);
		meet();
		if :: copy(kept, now) :: skip fi;
		entry = 0; after = 0; v = 0; live(now, 0, 0); now.root = 0
	   }

	/* A restore: state and board of the backup under a new lineage. */
	:: atomic { !lying -> copy(backup, view[0]) }
	:: atomic {
		!lying && backup.ordinal < ORDINALS && drawn < ORDINALS ->
		copy(view[0], backup);
		if
		:: KEEP_LINEAGE
		:: !KEEP_LINEAGE -> drawn++; live(view[0], backup.ordinal + 1, drawn)
		fi
	   }

	/* Open: a member shows kept, and the relay signs its answer over it. */
	:: atomic {
		if :: v = 0 :: lying -> v = 1 fi;
		if
		:: lying ->
			/* Go on, or name a newer lineage or a twin of the first one. A
			   member that is told of a newer one begins a new view with it. */
			copy(now, view[v]);
			if :: skip :: live(now, 2, 1) :: live(now, 1, 2) fi
		:: !lying ->
			if
			:: !IGNORE_SHOWN && kept.n > 0 && (kept.ordinal > view[0].ordinal ||
			   (kept.ordinal == view[0].ordinal && kept.random != view[0].random) ||
			   (SAME_LIFE(kept, view[0]) && kept.n > view[0].n)) ->
				kept.ordinal < ORDINALS && drawn < ORDINALS + 1;
				drawn++;
				live(view[0], kept.ordinal + 1, drawn)
			:: else
			fi;
			copy(now, view[0])
		fi;
		convicted = ANSWER(kept, now);
		if
		:: !lying -> assert(!convicted)
		:: lying && convicted
		:: lying && !convicted ->
			/* Not convicted: the member goes on from what it showed, or was
			   told that history was lost. */
			assert(kept.n == 0 || now.ordinal > kept.ordinal || (SAME_LIFE(now, kept) && now.n >= kept.n));
			copy(view[v], now)
		fi;
		convicted = 0; v = 0; live(now, 0, 0); now.root = 0
	   }
	od
}
