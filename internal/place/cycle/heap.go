package cycle

// heap is a binary heap of things that know their place in it, so that any of
// them can be moved or taken out. The order must be total: then what comes out
// doesn't depend on what went in first.
type heap[T any] struct {
	items []T
	less  func(a, b T) bool
	place func(item T, at int) // -1 is outside
}

func (h *heap[T]) empty() bool { return len(h.items) == 0 }

func (h *heap[T]) top() T { return h.items[0] }

func (h *heap[T]) push(item T) {
	h.items = append(h.items, item)
	h.place(item, len(h.items)-1)
	h.up(len(h.items) - 1)
}

func (h *heap[T]) remove(at int) {
	last := len(h.items) - 1
	item := h.items[at]
	h.swap(at, last)
	var none T
	h.items[last] = none // the array outlives it
	h.items = h.items[:last]
	h.place(item, -1)
	if at < last {
		h.fix(at)
	}
}

// fix restores the order after the item at a place changed.
func (h *heap[T]) fix(at int) {
	h.down(at)
	h.up(at)
}

func (h *heap[T]) up(at int) {
	for at > 0 && h.less(h.items[at], h.items[(at-1)/2]) {
		h.swap(at, (at-1)/2)
		at = (at - 1) / 2
	}
}

func (h *heap[T]) down(at int) {
	for {
		first := 2*at + 1
		if first >= len(h.items) {
			return
		}
		if second := first + 1; second < len(h.items) && h.less(h.items[second], h.items[first]) {
			first = second
		}
		if !h.less(h.items[first], h.items[at]) {
			return
		}
		h.swap(at, first)
		at = first
	}
}

func (h *heap[T]) swap(a, b int) {
	if a == b {
		return
	}
	h.items[a], h.items[b] = h.items[b], h.items[a]
	h.place(h.items[a], a)
	h.place(h.items[b], b)
}
