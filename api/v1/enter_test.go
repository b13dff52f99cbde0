package v1_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func TestFramesComeAsTheyWereSent(t *testing.T) {
	var wire bytes.Buffer
	sent := []v1.Frame{
		{Channel: v1.ChannelStdin, Payload: []byte{}}, {Channel: v1.ChannelStdout, Payload: []byte("hello")},
		{Channel: v1.ChannelStderr, Payload: bytes.Repeat([]byte{7}, v1.MaxFrame)},
	}
	for _, f := range sent {
		if err := v1.WriteFrame(&wire, f); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]byte("\x00\x00\x00\x00\x00\x01\x00\x00\x00\x05hello"), wire.Bytes()[:15]); diff != "" {
		t.Error(diff)
	}
	for _, want := range sent {
		got, err := v1.ReadFrame(&wire, make([]byte, 3))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
	}
	if _, err := v1.ReadFrame(&wire, nil); err != io.EOF {
		t.Error(err)
	}
}

func TestFramesThatAreCutOrTooLongAreNotTaken(t *testing.T) {
	for wire, want := range map[string]error{
		"": io.EOF, "\x01": io.ErrUnexpectedEOF, "\x01\x00\x00\x00\x02": io.ErrUnexpectedEOF, "\x01\x00\x00\x00\x02x": io.ErrUnexpectedEOF,
	} {
		if _, err := v1.ReadFrame(bytes.NewReader([]byte(wire)), nil); err != want {
			t.Errorf("%q: %v, want %v", wire, err, want)
		}
	}
	if _, err := v1.ReadFrame(bytes.NewReader([]byte("\x01\xff\xff\xff\xff")), nil); penstock.CodeOf(err) != penstock.TooLarge {
		t.Error(err)
	}
	if err := v1.WriteFrame(io.Discard, v1.Frame{Payload: make([]byte, v1.MaxFrame+1)}); penstock.CodeOf(err) != penstock.TooLarge {
		t.Error(err)
	}
}
