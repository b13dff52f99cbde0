package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// stage lays out shards of these numbers of tokens and gives the order of a rank
// that is fed with them. Token i of the stream is i mod 65536.
func stage(t testing.TB, window, batch int, tokens ...int) (v1.Order, string) {
	t.Helper()
	dir := t.TempDir()
	data := v1.Staged{Name: "train", Digest: someDigest}
	next := uint16(0)
	for i, n := range tokens {
		var b []byte
		for range n {
			b = binary.LittleEndian.AppendUint16(b, next)
			next++
		}
		sum := sha256.Sum256(b)
		f := v1.File{Path: fmt.Sprintf("train-%05d.bin", i), Size: int64(len(b)), Digest: penstock.DigestOf(sum[:])}
		data.Files = append(data.Files, f)
		if err := os.WriteFile(filepath.Join(dir, f.Path), b, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	return v1.Order{
		WorldSize: 1, Data: []v1.Staged{{Name: "other"}, data},
		Feed: &v1.Feed{Data: "train", Seed: 7, Window: window, Batch: batch},
	}, dir
}

func mustHandle(t testing.TB, order v1.Order, dir string) http.Handler {
	t.Helper()
	h, err := Handler(order, dir)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(h http.Handler, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

// firsts gives the first token of each sample of a batch, and checks that the
// others follow it: that tells which samples they are.
func firsts(t testing.TB, h http.Handler, step int64, window int) []int {
	t.Helper()
	w := get(h, "/batch?step="+strconv.FormatInt(step, 10))
	if w.Code != http.StatusOK {
		t.Fatalf("step %d: %d %s", step, w.Code, w.Body)
	}
	body := w.Body.Bytes()
	if got := fmt.Sprintf("%08x", crc32.Checksum(body, crc32.MakeTable(0x82f63b78))); w.Header().Get("X-Penstock-CRC32C") != got {
		t.Fatalf("checksum %s in the header, %s of the body", w.Header().Get("X-Penstock-CRC32C"), got)
	}
	if w.Header().Get("Content-Length") != strconv.Itoa(len(body)) || len(body)%(2*window) != 0 {
		t.Fatalf("%d bytes, header %s", len(body), w.Header().Get("Content-Length"))
	}
	var out []int
	for i := 0; i < len(body); i += 2 * window {
		first := int(binary.LittleEndian.Uint16(body[i:]))
		for j := range window {
			if got := int(binary.LittleEndian.Uint16(body[i+2*j:])); got != (first+j)%65536 {
				t.Fatalf("token %d of a sample that begins with %d is %d", j, first, got)
			}
		}
		out = append(out, first)
	}
	return out
}

// ranks are the handlers of all ranks of a world.
func ranks(t testing.TB, order v1.Order, dir string, world int) []http.Handler {
	t.Helper()
	all := make([]http.Handler, world)
	for r := range all {
		order.WorldSize, order.Rank = world, r
		all[r] = mustHandle(t, order, dir)
	}
	return all
}

// global is the batch of all ranks together.
func global(t testing.TB, all []http.Handler, step int64, window int) (batch []int) {
	t.Helper()
	for _, h := range all {
		batch = append(batch, firsts(t, h, step, window)...)
	}
	return batch
}

func TestWindowsCoverTheShardsAsOneStream(t *testing.T) {
	// Windows of 10 begin and end anywhere; the last 7 tokens fill none.
	order, dir := stage(t, 10, 4, 3, 0, 14, 1, 1, 1, 25, 80, 2)
	h := mustHandle(t, order, dir)
	var got, want []int
	for step := range int64(3) {
		got = append(got, firsts(t, h, step, 10)...)
	}
	for s := range 12 {
		want = append(want, 10*s)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("first tokens (-want +got):\n%s", diff)
	}
}

func TestTheSequenceIsTheSameForEveryWorldAndFromEveryStep(t *testing.T) {
	const window, batch, steps = 3, 12, 20
	order, dir := stage(t, window, batch, 50, 41, 60) // 50 samples: epochs end within batches
	alone := ranks(t, order, dir, 1)
	var want [][]int
	for step := range int64(steps) {
		want = append(want, global(t, alone, step, window))
	}
	worlds := map[int][]http.Handler{}
	for _, w := range []int{1, 2, 3, 4, 6, 12} {
		worlds[w] = ranks(t, order, dir, w)
	}
	rapid.Check(t, func(rt *rapid.T) {
		// A run that is stopped and resumed again and again, each time in
		// another world, and from a step that it had already taken.
		step := int64(0)
		for step < steps {
			world := rapid.SampledFrom([]int{1, 2, 3, 4, 6, 12}).Draw(rt, "world")
			step = max(0, step-rapid.Int64Range(0, 3).Draw(rt, "back"))
			for n := rapid.Int64Range(1, 8).Draw(rt, "steps"); n > 0 && step < steps; n-- {
				if diff := cmp.Diff(want[step], global(t, worlds[world], step, window)); diff != "" {
					rt.Fatalf("step %d with %d ranks (-want +got):\n%s", step, world, diff)
				}
				step++
			}
		}
	})
}

func TestEachEpochServesEverySampleOnceAcrossBatches(t *testing.T) {
	order, dir := stage(t, 2, 8, 2*30) // 30 samples, 3 ¾ batches
	all := ranks(t, order, dir, 4)
	var sequence []int
	for step := range int64(15) { // 4 epochs
		sequence = append(sequence, global(t, all, step, 2)...)
	}
	seen := map[string]bool{}
	for epoch := range 4 {
		one := slices.Clone(sequence[epoch*30 : (epoch+1)*30])
		seen[fmt.Sprint(one)] = true
		slices.Sort(one)
		for i, first := range one {
			if first != 2*i {
				t.Fatalf("epoch %d: sample %d is missing", epoch, i)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("4 epochs have %d different orders", len(seen))
	}
}

func TestABatchMayBeLargerThanTheData(t *testing.T) {
	order, dir := stage(t, 2, 8, 7) // 3 samples
	got := firsts(t, mustHandle(t, order, dir), 0, 2)
	for epoch := range 2 {
		one := slices.Clone(got[3*epoch : 3*epoch+3])
		slices.Sort(one)
		if diff := cmp.Diff([]int{0, 2, 4}, one); diff != "" {
			t.Errorf("epoch %d (-want +got):\n%s", epoch, diff)
		}
	}
}

func TestTheEpochIsThatOfTheWholeBatch(t *testing.T) {
	order, dir := stage(t, 1, 4, 6)
	for _, h := range ranks(t, order, dir, 2) {
		for step, want := range []string{"0", "0", "1", "2", "2", "3"} {
			if got := get(h, "/batch?step="+strconv.Itoa(step)).Header().Get("X-Penstock-Epoch"); got != want {
				t.Errorf("step %d is in epoch %s, want %s", step, got, want)
			}
		}
	}
}

func TestInfoTellsTheShapeOfAllBatches(t *testing.T) {
	order, dir := stage(t, 10, 6, 100, 95)
	order.WorldSize, order.Rank = 3, 2
	w := get(mustHandle(t, order, dir), "/info")
	want := `{"samples":19,"window":10,"batch":6,"world":3,"rank":2,"steps_per_epoch":3,"seed":7,"digest":"` + string(someDigest) + "\"}\n"
	if w.Code != 200 || w.Body.String() != want || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %s, want %s", w.Code, w.Body, want)
	}
}

func TestWhatIsNoStepIsRefused(t *testing.T) {
	order, dir := stage(t, 2, 4, 100)
	h := mustHandle(t, order, dir)
	for _, query := range []string{
		"", "?step", "?step=", "?step=-1", "?step=x", "?step=1.0", "?step=0x1", "?step=1&step=2", "?step=1&rank=0", "?STEP=1", "?step=%31;",
		"?step=2305843009213693951", "?step=9223372036854775807", "?step=9223372036854775808", "?step=%zz",
	} {
		w := get(h, "/batch"+query)
		var p v1.Problem
		err := json.Unmarshal(w.Body.Bytes(), &p)
		if w.Code != 422 || err != nil || p.Code != penstock.Invalid || p.Hint == "" || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
	}
	if w := get(h, "/batch?step=2305843009213693950"); w.Code != 200 {
		t.Errorf("the last step: %d %s", w.Code, w.Body)
	}
	if w := get(h, "/other"); w.Code != 404 {
		t.Errorf("another path: %d", w.Code)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/batch?step=1", nil))
	if w.Code != 405 {
		t.Errorf("another method: %d", w.Code)
	}
}

func TestAnOrderThatCannotBeServedIsExplained(t *testing.T) {
	for name, c := range map[string]struct {
		change func(o *v1.Order, dir string)
		want   penstock.Code
	}{
		"no feed":                 {func(o *v1.Order, _ string) { o.Feed = nil }, penstock.Invalid},
		"other data":              {func(o *v1.Order, _ string) { o.Feed.Data = "heldout" }, penstock.Invalid},
		"data without files":      {func(o *v1.Order, _ string) { o.Feed.Data = "other" }, penstock.Invalid},
		"a window of nothing":     {func(o *v1.Order, _ string) { o.Feed.Window = 0 }, penstock.Invalid},
		"a batch of nothing":      {func(o *v1.Order, _ string) { o.Feed.Batch = 0 }, penstock.Invalid},
		"a world that can't":      {func(o *v1.Order, _ string) { o.WorldSize = 3 }, penstock.Invalid},
		"a world of nothing":      {func(o *v1.Order, _ string) { o.WorldSize = 0 }, penstock.Invalid},
		"a rank too high":         {func(o *v1.Order, _ string) { o.Rank = 1 }, penstock.Invalid},
		"a rank below":            {func(o *v1.Order, _ string) { o.Rank = -1 }, penstock.Invalid},
		"a window that's too big": {func(o *v1.Order, _ string) { o.Feed.Window = 101 }, penstock.Invalid},
		"more than fits":          {func(o *v1.Order, _ string) { o.Feed.Window = 1 << 40 }, penstock.Invalid},
		"text":                    {func(o *v1.Order, _ string) { o.Data[1].Files[0].Path = "train-00000.jsonl" }, penstock.Unsupported},
		"half a token":            {func(o *v1.Order, _ string) { o.Data[1].Files[0].Size-- }, penstock.Unsupported},
		"another size":            {func(o *v1.Order, _ string) { o.Data[1].Files[0].Size -= 2 }, penstock.Corrupt},
		"a shard outside":         {func(o *v1.Order, _ string) { o.Data[1].Files[0].Path = "../x.bin" }, penstock.Unavailable},
		"a missing shard":         {func(_ *v1.Order, dir string) { _ = os.Remove(filepath.Join(dir, "train-00001.bin")) }, penstock.Unavailable},
		"no folder":               {func(_ *v1.Order, dir string) { _ = os.RemoveAll(dir) }, penstock.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			order, dir := stage(t, 10, 4, 50, 50)
			c.change(&order, dir)
			if _, err := Handler(order, dir); penstock.CodeOf(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestAShardCutShortIsToldInsteadOfServed(t *testing.T) {
	order, dir := stage(t, 10, 10, 100)
	h := mustHandle(t, order, dir)
	name := filepath.Join(dir, "train-00000.bin")
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 150); err != nil {
		t.Fatal(err)
	}
	w := get(h, "/batch?step=0")
	var p v1.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 500 || p.Code != penstock.Corrupt || p.Where != "train-00000.bin" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestManyAtOnceOverASocketGetTheirOwnBatches(t *testing.T) {
	order, dir := stage(t, 5, 8, 300, 300)
	h := mustHandle(t, order, dir)
	socket := filepath.Join(t.TempDir(), "feed.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	var done sync.WaitGroup
	for step := range 64 {
		want := get(h, fmt.Sprintf("/batch?step=%d", step)).Body.Bytes()
		done.Go(func() {
			answer, err := client.Get(fmt.Sprintf("http://feed/batch?step=%d", step))
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			got, err := io.ReadAll(answer.Body)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("step %d: %d bytes, %v, or others than alone", step, len(got), err)
			}
		})
	}
	done.Wait()
}

func TestWhoeverGivesUpWaitingFreesNothingOfOthers(t *testing.T) {
	order, dir := stage(t, 2, 4, 100)
	f, err := open(order, dir)
	if err != nil {
		t.Fatal(err)
	}
	for range parallel {
		<-f.buffers
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	f.serveBatch(w, httptest.NewRequest(http.MethodGet, "/batch?step=0", nil).WithContext(ctx))
	if w.Body.Len() != 0 || len(f.buffers) != 0 {
		t.Errorf("got %d bytes, %d buffers are free", w.Body.Len(), len(f.buffers))
	}
}

func TestNothingIsAllocatedForASample(t *testing.T) {
	counts := map[int]float64{}
	for _, batch := range []int{8, 512} {
		order, dir := stage(t, 16, batch, 16*600)
		f, err := open(order, dir)
		if err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, batch*16*tokenBytes)
		counts[batch] = testing.AllocsPerRun(20, func() {
			if err := f.fill(buffer, 0); err != nil {
				t.Fatal(err)
			}
		})
	}
	if counts[8] != counts[512] {
		t.Errorf("allocations by batch: %v", counts)
	}
}

func BenchmarkBatch(b *testing.B) {
	order, dir := stage(b, 257, 256, 4<<20)
	f, err := open(order, dir)
	if err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 256*257*tokenBytes)
	b.SetBytes(int64(len(buffer)))
	for step := int64(0); b.Loop(); step++ {
		if err := f.fill(buffer, step); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(256*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}
