//! Which transaction comes before which, and whether that goes in a circle.

use std::collections::VecDeque;

/// A graph over numbered nodes.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    edges: Vec<Vec<usize>>,
}

impl Graph {
    /// `count` nodes and no edge.
    #[must_use]
    pub fn new(count: usize) -> Graph {
        Graph {
            edges: vec![Vec::new(); count],
        }
    }

    /// One more node.
    pub fn add_node(&mut self) -> usize {
        self.edges.push(Vec::new());
        self.edges.len() - 1
    }

    /// `from` comes before `to`.
    pub fn add(&mut self, from: usize, to: usize) {
        if from != to {
            self.edges[from].push(to);
        }
    }

    /// The nodes of a circle, in its order, if there is one; a shortest one through its first node.
    #[must_use]
    pub fn cycle(&self) -> Option<Vec<usize>> {
        let left = self.without_ends();
        // Every node that is left lies on a circle or between two.
        let found = left.iter().filter_map(|node| self.cycle_through(*node));
        found.min_by_key(Vec::len)
    }

    /// What remains when nodes into which nothing leads are taken away, again and again: nothing,
    /// unless there is a circle.
    fn without_ends(&self) -> Vec<usize> {
        let mut leading_in = vec![0_usize; self.edges.len()];
        for to in self.edges.iter().flatten() {
            leading_in[*to] += 1;
        }
        let mut free: Vec<usize> = (0..self.edges.len())
            .filter(|node| leading_in[*node] == 0)
            .collect();
        while let Some(node) = free.pop() {
            for to in &self.edges[node] {
                leading_in[*to] -= 1;
                if leading_in[*to] == 0 {
                    free.push(*to);
                }
            }
        }
        (0..self.edges.len())
            .filter(|node| leading_in[*node] > 0)
            .collect()
    }

    fn cycle_through(&self, start: usize) -> Option<Vec<usize>> {
        let mut came_from: Vec<Option<usize>> = vec![None; self.edges.len()];
        let mut open = VecDeque::from([start]);
        while let Some(node) = open.pop_front() {
            for &to in &self.edges[node] {
                if to == start {
                    let mut path = vec![node];
                    let mut at = node;
                    while at != start {
                        at = came_from[at]?;
                        path.push(at);
                    }
                    path.reverse();
                    return Some(path);
                }
                if came_from[to].is_none() {
                    came_from[to] = Some(node);
                    open.push_back(to);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(usize, usize)]) -> Graph {
        let mut graph = Graph::new(6);
        edges.iter().for_each(|(from, to)| graph.add(*from, *to));
        graph
    }

    #[test]
    fn a_circle_is_found_and_nothing_else() {
        assert_eq!(graph(&[]).cycle(), None);
        assert_eq!(graph(&[(0, 1), (1, 2), (0, 2), (3, 3)]).cycle(), None);
        let mut found = graph(&[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)]).cycle();
        found.as_mut().expect("a circle").sort_unstable();
        assert_eq!(found, Some(vec![1, 2, 3]));
    }

    #[test]
    fn the_shortest_circle_is_shown() {
        let edges = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 4), (3, 4)];
        let mut found = graph(&edges).cycle().expect("two circles");
        found.sort_unstable();
        assert_eq!(found, [4, 5]);
    }
}
