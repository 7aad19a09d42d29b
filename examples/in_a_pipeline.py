"""The estimator inside scikit-learn's tools: a pipeline, searched over folds and compared."""

import numpy as np
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import qdeq


def main():
    x, y = make_moons(240, noise=0.2, random_state=0)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
    pipeline = make_pipeline(StandardScaler(), qdeq.QDEQClassifier(epochs=30, random_state=0))
    search = GridSearchCV(pipeline, {"qdeqclassifier__learning_rate": [0.005, 0.02]}, cv=2)
    search.fit(x_train, y_train)
    linear = np.mean(cross_val_score(LogisticRegression(), x_train, y_train, cv=2))
    print(f"chosen {search.best_params_}: {search.best_score_:.3f}, linear {linear:.3f}")
    print(f"test accuracy {search.score(x_test, y_test):.3f}")
    return float(search.score(x_test, y_test))


if __name__ == "__main__":
    main()
