-- What a collection's texts are to be analysed by: a language's code; null: words as they are. Each index says itself what it was made with.
ALTER TABLE collections ADD COLUMN language TEXT;
