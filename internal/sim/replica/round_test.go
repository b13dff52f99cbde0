package replica

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// fault is what befalls the site in a round. It gives how long it took until
// somebody led again.
type fault struct {
	name string
	do   func(*site) time.Duration
}

var faults = []fault{
	{"leader killed", (*site).killLeader},
	{"leader frozen and thawed", (*site).freezeLeader},
	{"database restarted", (*site).restartDatabase},
	{"connections cut", (*site).cutConnections},
	{"commits refused", (*site).refuseCommits},
}

// rounds is how many rounds are asked for, and the seed of their course.
func rounds(t *testing.T) (n int, seed uint64) {
	n, seed = 15, rand.Uint64()
	if testing.Short() {
		n = len(faults)
	}
	for name, set := range map[string]func(string) error{
		"PENSTOCK_CHAOS_ROUNDS": func(v string) (err error) { n, err = strconv.Atoi(v); return err },
		"PENSTOCK_CHAOS_SEED":   func(v string) (err error) { seed, err = strconv.ParseUint(v, 10, 64); return err },
	} {
		if v := os.Getenv(name); v != "" {
			if err := set(v); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	return n, seed
}

func TestNothingIsLostOrClaimedTwiceAndSomebodyLeadsSoonWhateverHappens(t *testing.T) {
	n, seed := rounds(t)
	t.Logf("%d rounds, PENSTOCK_CHAOS_SEED=%d", n, seed)
	s := newSite(t, seed)
	var order []fault
	for round := range n {
		if len(order) == 0 {
			order = slices.Clone(faults)
			s.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		f := order[0]
		order = order[1:]
		s.feed(10)
		time.Sleep(time.Duration(s.random.IntN(1000)) * time.Millisecond) // so that the fault finds them at any point of what they do
		took := f.do(s)
		s.feed(10)
		s.drained()
		s.takeover[f.name] = max(s.takeover[f.name], took)
		t.Logf("round %d: %s; led again after %v", round+1, f.name, took.Round(time.Millisecond))
		if took > longestTakeover {
			t.Errorf("nobody led for %v, %v are allowed", took, longestTakeover)
		}
		if t.Failed() {
			break
		}
	}
	for name := range maps.Clone(s.replicas) {
		s.kill(name)
	}
	s.history.check(t, s.folder)
	s.report()
}

func (s *site) report() {
	for _, f := range faults {
		s.t.Logf("%-24s led again after %v at most", f.name, s.takeover[f.name].Round(time.Millisecond))
	}
	s.t.Logf("%d connections cut, %d commits refused", s.cuts, s.refused())
	for _, what := range slices.Sorted(maps.Keys(s.history.fates)) {
		s.t.Logf("%-24s %d", what, s.history.fates[what])
	}
}

// leading waits for a commit of a leader that is there now.
func (s *site) leading() lead {
	s.t.Helper()
	return s.history.leader(s.t, clock(), func(l lead) bool { return s.replicas[l.name] != nil })
}

func (s *site) killLeader() time.Duration {
	old := s.leading()
	at := clock()
	s.kill(old.name)
	next := s.history.leader(s.t, at, func(l lead) bool { return l.token > old.token })
	s.start()
	return time.Duration(next.at - at)
}

// freezeLeader thaws the leader after another one has taken over, and waits
// until it has done something since: what it commits as a leader is refused.
func (s *site) freezeLeader() time.Duration {
	old := s.leading()
	at := clock()
	s.signal(old.name, syscall.SIGSTOP)
	next := s.history.leader(s.t, at, func(l lead) bool { return l.token > old.token })
	said := s.history.lines(old.name)
	s.signal(old.name, syscall.SIGCONT)
	for deadline := time.Now().Add(30 * time.Second); s.history.lines(old.name) < said+10; time.Sleep(5 * time.Millisecond) { // polls: another process
		s.feed(1)
		if time.Now().After(deadline) {
			s.t.Fatalf("%s does nothing since it was thawed", old.name)
		}
	}
	return time.Duration(next.at - at)
}

func (s *site) restartDatabase() time.Duration {
	s.leading()
	if s.random.IntN(2) == 0 {
		s.server.Kill(s.t)
	} else {
		s.server.Stop(s.t)
	}
	s.server.Restart(s.t)
	return s.ledAgain()
}

// ledAgain is how long it takes from now until somebody's commit as the leader
// is acknowledged.
func (s *site) ledAgain() time.Duration {
	at := clock()
	next := s.history.leader(s.t, at, func(lead) bool { return true })
	return time.Duration(next.at - at)
}

// storm is for how long connections are cut, or commits refused.
const storm = 3 * time.Second

func (s *site) cutConnections() time.Duration {
	s.leading()
	for _, c := range s.replicas {
		c.proxy.rages.Store(true)
	}
	s.feed(10)
	time.Sleep(storm)
	for _, c := range s.replicas {
		c.proxy.rages.Store(false)
	}
	return s.ledAgain()
}

// refusing makes the database refuse a share of commits as not serializable, at
// their very end, for as long as the table says so.
const refusing = `
CREATE TABLE chaos (share float NOT NULL);
INSERT INTO chaos VALUES (0);
CREATE SEQUENCE refused;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF random() < (SELECT share FROM chaos) THEN
		PERFORM nextval('refused');
		RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON leases DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON beats DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();`

func (s *site) refuseCommits() time.Duration {
	s.leading()
	before := s.refused()
	s.exec("UPDATE chaos SET share = 0.6")
	s.feed(10)
	time.Sleep(storm)
	s.exec("UPDATE chaos SET share = 0")
	took := s.ledAgain()
	if s.refused() == before {
		s.t.Error("no commit was refused")
	}
	return took
}

// refused is how many commits were refused.
func (s *site) refused() (n int64) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(s.t.Context(), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM refused").Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// escaped is a path as it stands in a URL's query.
func escaped(path string) string { return url.QueryEscape(path) }
