package control

import (
	"context"
	"errors"

	"github.com/penstock/penstock"
)

// stage is one step of a pass.
type stage struct {
	name string
	do   func(*Control, context.Context) error
}

// flow is the life of everything, in the order in which a pass looks at it.
// Each stage reads what is so, and moves it one step on; what a stage leaves
// undone, because something failed, the next pass finds again.
var flow = []stage{
	{"observe fleet", (*Control).observeFleet}, // pools learn what their executor has
	{"observe tasks", (*Control).observeTasks}, // tasks whose agent is gone
	{"settle", (*Control).settleAttempts},      // attempts that ended, and what their jobs become
	{"scan", (*Control).scanVersions},          // model versions become visible, or are refused
	{"datasets", (*Control).deriveDatasets},    // datasets make preparation jobs
	{"endpoints", (*Control).deriveEndpoints},  // endpoints make serving jobs
	{"monitors", (*Control).watchMonitors},     // traffic is compared, alerts are raised
	{"pipelines", (*Control).triggerPipelines}, // alerts and new data start jobs
	{"admit and place", (*Control).schedule},   // queued jobs become attempts, or learn why not
	{"launch", (*Control).launchAttempts},      // effect: gangs start
	{"stop", (*Control).stopAttempts},          // effect: gangs end
	{"retire", (*Control).retireObjects},       // what was deleted goes, or is kept with a reason
	{"forget", (*Control).forgetAttempts},      // executors keep nothing of what is gone
}

// pass makes every stage do its step once. Passes don't overlap: one server leads
// at a time, and what it commits is fenced (see Election).
//
// Effects are not in the store, so no lease fences them: a leader that freezes
// right before one may bring it about after another server took over. None does
// harm then:
//   - Start comes right after a commit, that of the orders' token, which a server
//     that lost the lease can't make. One that froze in between starts an attempt
//     that another server started, too, which changes nothing; or one that has
//     ended: then its agents' first report is Fenced, and they kill their tasks.
//   - Stop is for attempts that are Stopping, and nothing leads back from there.
//   - Forget is for attempts whose removal was committed.
//   - Observe, Nodes and reads of blobs change nothing, and what is concluded from
//     them is a fenced commit.
func (c *Control) pass(ctx context.Context) {
	for _, s := range flow {
		if ctx.Err() != nil {
			return
		}
		if err := s.do(c, ctx); err != nil && ctx.Err() == nil {
			c.Log.Error("stage", "stage", s.name, "error", err)
		}
	}
}

// retry runs fn again while another writer got in between. Three times is
// plenty: the next pass is near.
func retry(fn func() error) error {
	var err error
	for range 3 {
		if err = fn(); !errors.Is(err, &penstock.Error{Code: penstock.Conflict}) {
			return err
		}
	}
	return err
}
