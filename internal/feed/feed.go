package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net/http"
	"net/url"
	"path"
	"strconv"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

const (
	// parallel is how many batches are in memory at once; who asks for more waits.
	parallel = 4
	// maxBatch bounds one rank's part of a batch, in bytes.
	maxBatch = 256 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// feed serves one rank.
type feed struct {
	info    info
	order   Order
	stream  *stream
	buffers chan []byte // parallel of them; each is made when it is first used
}

// info is the answer of /info.
type info struct {
	Samples       int64           `json:"samples"`
	Window        int             `json:"window"`
	Batch         int             `json:"batch"`
	World         int             `json:"world"`
	Rank          int             `json:"rank"`
	StepsPerEpoch int64           `json:"steps_per_epoch"`
	Seed          int64           `json:"seed"`
	Digest        penstock.Digest `json:"digest"`
}

// Handler serves the samples of order.Feed to order.Rank of order.WorldSize, as
// the package comment says. dir is where the files of the staged data of that
// name lie. It holds them open for as long as it is used, and takes memory for
// four batches of this rank at most.
func Handler(order v1.Order, dir string) (http.Handler, error) {
	f, err := open(order, dir)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /batch", f.serveBatch)
	mux.HandleFunc("GET /info", f.serveInfo)
	return mux, nil
}

func open(order v1.Order, dir string) (*feed, error) {
	if order.Feed == nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the order has no feed"}
	}
	i := info{Window: order.Feed.Window, Batch: order.Feed.Batch, World: order.WorldSize, Rank: order.Rank, Seed: order.Feed.Seed}
	if err := i.check(); err != nil {
		return nil, err
	}
	data, err := find(order.Data, order.Feed.Data)
	if err != nil {
		return nil, err
	}
	s, err := openStream(dir, data)
	if err != nil {
		return nil, err
	}
	i.Digest = data.Digest
	i.Samples = s.size / tokenBytes / int64(i.Window)
	i.StepsPerEpoch = i.Samples / int64(i.Batch)
	if i.Samples == 0 {
		return nil, &penstock.Error{
			Code: penstock.Invalid, Where: data.Name, Msg: fmt.Sprintf("%d tokens don't fill one window of %d", s.size/tokenBytes, i.Window),
			Hint: "take a smaller window or a larger dataset", Err: s.close(),
		}
	}
	f := &feed{info: i, order: Order{i.Seed, i.Digest, i.Samples}, stream: s, buffers: make(chan []byte, parallel)}
	for range parallel {
		f.buffers <- nil
	}
	return f, nil
}

func (i info) check() error {
	problem := ""
	switch {
	case i.Window < 1 || i.Batch < 1:
		problem = fmt.Sprintf("batches of %d samples of %d tokens", i.Batch, i.Window)
	case i.World < 1 || i.Rank < 0 || i.Rank >= i.World:
		problem = fmt.Sprintf("rank %d of %d", i.Rank, i.World)
	case i.Batch%i.World != 0:
		problem = fmt.Sprintf("a batch of %d samples can't be shared out evenly to %d ranks", i.Batch, i.World)
	case i.Window > maxBatch/tokenBytes/(i.Batch/i.World):
		problem = fmt.Sprintf("%d samples of %d tokens for each rank are more than %d bytes", i.Batch/i.World, i.Window, maxBatch)
	default:
		return nil
	}
	return &penstock.Error{Code: penstock.Invalid, Where: "spec.feed", Msg: problem, Hint: "change window, batch or the number of tasks; the number of tasks must divide batch"}
}

func find(data []v1.Staged, name string) (v1.Staged, error) {
	for _, d := range data {
		if d.Name != name {
			continue
		}
		for _, f := range d.Files {
			if path.Ext(f.Path) != ".bin" {
				return d, &penstock.Error{Code: penstock.Unsupported, Where: f.Path, Msg: "it is no shard of tokens", Hint: "a feed needs a dataset of the format tokens-u16"}
			}
		}
		return d, nil
	}
	return v1.Staged{}, &penstock.Error{Code: penstock.Invalid, Where: "spec.feed.data", Msg: fmt.Sprintf("no data is named %.80q", name)}
}

func (f *feed) serveInfo(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(f.info) // who hung up knows that there is no answer
}

func (f *feed) serveBatch(w http.ResponseWriter, r *http.Request) {
	step, err := f.parseStep(r.URL.RawQuery)
	if err != nil {
		refuse(w, err)
		return
	}
	var buffer []byte
	select {
	case buffer = <-f.buffers:
	case <-r.Context().Done():
		return
	}
	defer func() { f.buffers <- buffer }()
	if buffer == nil {
		buffer = make([]byte, f.info.Batch/f.info.World*f.info.Window*tokenBytes)
	}
	if err := f.fill(buffer, step); err != nil {
		refuse(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(len(buffer)))
	h.Set("X-Penstock-Epoch", strconv.FormatInt(step*int64(f.info.Batch)/f.info.Samples, 10))
	h.Set("X-Penstock-CRC32C", fmt.Sprintf("%08x", crc32.Checksum(buffer, castagnoli)))
	_, _ = w.Write(buffer) // the same
}

// parseStep refuses a step whose positions can't be counted.
func (f *feed) parseStep(query string) (int64, error) {
	values, err := url.ParseQuery(query)
	if err == nil && len(values) == 1 && len(values["step"]) == 1 {
		step, err := strconv.ParseInt(values["step"][0], 10, 64)
		if err == nil && step >= 0 && step < math.MaxInt64/int64(f.info.Batch) {
			return step, nil
		}
	}
	return 0, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q asks for no step", query), Hint: "ask for /batch?step=N with N from 0 on"}
}

// fill puts this rank's part of a step's batch into b.
func (f *feed) fill(b []byte, step int64) error {
	mine := int64(f.info.Batch / f.info.World)
	first := step*int64(f.info.Batch) + int64(f.info.Rank)*mine
	epoch := first / f.info.Samples
	samples := f.order.epoch(epoch)
	size := int64(f.info.Window) * tokenBytes
	for i := range mine {
		position := first + i
		if e := position / f.info.Samples; e != epoch {
			epoch, samples = e, f.order.epoch(e)
		}
		if err := f.stream.readAt(b[i*size:(i+1)*size], samples.at(position%f.info.Samples)*size); err != nil {
			return err
		}
	}
	return nil
}

// refuse answers with the error's own words; its cause is nobody's business.
func refuse(w http.ResponseWriter, err error) {
	info := penstock.InfoOf(err)
	problem := v1.Problem{Type: "urn:penstock:error:" + string(info.Code), Title: string(info.Code), Status: info.HTTP, Code: info.Code}
	var e *penstock.Error
	if errors.As(err, &e) {
		problem.Detail, problem.Where, problem.Hint = e.Msg, e.Where, e.Hint
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(info.HTTP)
	_ = json.NewEncoder(w).Encode(problem) // as for info
}
