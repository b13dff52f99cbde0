package pack

// states numbers what nodes look like to a policy, so that nodes in the same
// state share a score: in a fleet most nodes are like others, idle or full. A
// number is used again once no node is in its state, under a new generation.
type states struct {
	ids  map[string]int32 // of each key in use
	of   []int32          // state of each node
	all  []state
	free []int32
	key  []byte // scratch
}

type state struct {
	key        string
	nodes      int
	generation uint32
}

func newStates(nodes []Node) *states {
	s := &states{ids: make(map[string]int32, len(nodes)), of: make([]int32, len(nodes))}
	for i := range nodes {
		s.of[i] = s.enter(&nodes[i])
	}
	return s
}

// moved notes that the node isn't as it was.
func (s *states) moved(i int, n *Node) {
	s.leave(s.of[i])
	s.of[i] = s.enter(n)
}

func (s *states) enter(n *Node) int32 {
	s.key = n.appendKey(s.key[:0])
	if id, known := s.ids[string(s.key)]; known {
		s.all[id].nodes++
		return id
	}
	id := int32(len(s.all))
	if last := len(s.free) - 1; last >= 0 {
		id, s.free = s.free[last], s.free[:last]
	} else {
		s.all = append(s.all, state{})
	}
	st := &s.all[id]
	st.key, st.nodes, st.generation = string(s.key), 1, st.generation+1
	s.ids[st.key] = id
	return id
}

func (s *states) leave(id int32) {
	st := &s.all[id]
	if st.nodes--; st.nodes == 0 {
		delete(s.ids, st.key)
		s.free = append(s.free, id)
	}
}

// appendKey appends all that a policy sees of the node.
func (n *Node) appendKey(b []byte) []byte {
	for shift := 0; shift < 64; shift += 8 {
		b = append(b, byte(n.CPU>>shift))
	}
	var held byte
	for kind, tasks := range n.Held {
		if tasks > 0 {
			held |= 1 << kind
		}
	}
	b = append(b, n.Type, held)
	for _, left := range n.Left {
		b = append(b, byte(left), byte(left>>8))
	}
	return b
}
