package org.apache.lucene.search.intervals;

import org.apache.lucene.search.Query;

/** Moved elsewhere in the Lucene that the wheel has. The server names the class when it starts; nobody asks for such a query. */
public class IntervalQuery extends Query {
  @Override public String toString(String field) { return "intervals"; }
  @Override public boolean equals(Object other) { return this == other; }
  @Override public int hashCode() { return System.identityHashCode(this); }
}
